"""The interface to a source: what one reporter tells, translated into what is left of requests.

A reporter is a process that speaks for an engine's cache. Some name requests (the hooks in vLLM and
SGLang), others know tokens and places only (the shim in llama-server). A source is made when a
reporter's epoch begins, and thrown away when it ends.

| who asks              | what                                                                    |
|-----------------------|-------------------------------------------------------------------------|
| `SyncReceiver`        | `read` for each message in order; `answered`, `broken_off`; `state`     |
| the server's pool     | `is_asked_while_planning`, `is_named_by_address`, `num_cuts`, `holdings` |
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from contextpilot.sync.events import Event, SyncMessage


class PromptCounts(NamedTuple):
    """What the answer to a request told of its prompt.

    Attributes:
        slot: the slot that it ran in; None when not known.
        cached, prompt: prompt tokens found in the cache, and all of them.
        generated: tokens of the answer; None when not known.
        since: `SlotHoldings.position` when the request was sent.
    """

    request: str
    slot: int | None
    cached: int
    prompt: int
    generated: int | None = None
    since: int = 0


class SlotHoldings(Protocol):
    """What the slots of an engine hold, as far as its reporter told."""

    @property
    def position(self) -> int:
        """How many events came so far."""

    def tokens(self, slot: int) -> int:
        """Return how many tokens a slot holds."""

    def requests(self, slot: int) -> list[tuple[str, int]]:
        """Return the requests of which a slot holds leading prompt tokens, and how many."""

    def is_pending(self, request: str) -> bool:
        """Return whether it is not known yet what became of a request."""

    def has_copies(self) -> bool:
        """Return whether there are copies from which the engine may fill slots."""

    def copies(self, slot: int) -> Iterable[tuple[int, Sequence[tuple[str, int]]]]:
        """Return the tokens and the requests of those left when a slot was saved, oldest first."""


class Source:
    """One reporter, from its start to its end. Its owner holds the lock.

    Args:
        clock: seconds, monotonic.

    Attributes:
        is_final: what it says of a request is all that is left; else more may be on its way.
        is_asked_while_planning: its messages are applied on the thread that plans, which asks it.
        is_named_by_address: its reporters' names end in host and port of their engine.
        num_cuts: how often less was left of a request than before.
    """

    is_final = False
    is_asked_while_planning = False
    is_named_by_address = False
    num_cuts = 0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    def read(self, message: SyncMessage) -> Iterable[Event]:
        """Take a message, in order and none twice; return what it means for requests.

        A snapshot takes the place of all that came before; `cleared` is told where the whole cache
        went at once.
        """
        raise NotImplementedError

    def answered(self, answer: PromptCounts) -> Iterable[Event]:
        """Note what the answer to a request told of its prompt; return what that means."""
        return ()

    def broken_off(self, request: str) -> Iterable[Event]:
        """Note that a request was broken off; return what that means."""
        return ()

    @property
    def holdings(self) -> SlotHoldings | None:
        """What the engine's slots hold; None where it has none, or does not tell."""
        return None

    def state(self) -> dict[str, Any]:
        """Return counts for people, ready for JSON."""
        return {}

"""Which slot of a llama-server a request should take.

Each slot holds the prompt that it ran last. By itself the server takes the most similar slot, even
if that drops a long unrelated conversation while another slot is empty (llama.cpp b11434).

With `--kv-unified`, its default, it moves what idle slots hold into its RAM cache at each new
request, and from there it fills an empty slot only if it chose that slot itself. So where slots
empty by themselves, none is asked for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple, Protocol

from contextpilot.block import BlockKey

_MAX_PROMPTS = 4096
_RECURS_OLDEST, _RECURS_NEWEST = 0.05, 0.1
"""Chance that what a slot would lose is asked for again; its worth: scripts/bench_slots.py."""
_MAX_MISSES = 2
_WORTH = 64
"""Expected tokens from which a miss tells that a slot does not hold what it should."""


class Prompt(NamedTuple):
    """A request's path in the index, and for each key the prompt tokens up to its end."""

    request: str
    keys: Sequence[BlockKey]
    ends: Sequence[int]

    @property
    def tokens(self) -> int:
        """Tokens of the whole path."""
        return self.ends[-1] if self.ends else 0

    def shared(self, other: Prompt) -> int:
        """Return the tokens of the common head of two prompts."""
        common = 0
        for mine, its in zip(self.keys, other.keys, strict=False):
            if mine != its:
                break
            common += 1
        return self.ends[common - 1] if common else 0


NO_PROMPT = Prompt("", (), ())


class Holdings(Protocol):
    """What the slots truly hold, where the engine tells."""

    def tokens(self, slot: int) -> int:
        """Return how many tokens a slot holds."""

    def requests(self, slot: int) -> list[tuple[str, int]]:
        """Return the requests of which a slot holds leading prompt tokens, and how many."""

    def is_pending(self, request: str) -> bool:
        """Return whether it is not known yet what became of a request."""

    def has_copies(self) -> bool:
        """Return whether there are copies from which the server may fill slots."""


@dataclass
class _Slot:
    number: int
    last: Prompt = NO_PROMPT
    expected: int = 0
    num_running: int = 0
    used: int = 0

    def is_told_of(self, holdings: Holdings) -> bool:
        """Return whether what the engine told is newer than what we sent."""
        return not self.num_running and not holdings.is_pending(self.last.request)


class Slots:
    """The slots of one engine: as it tells, or as far as our own requests tell. For one thread."""

    def __init__(self, count: int) -> None:
        self._slots = [_Slot(number) for number in range(count)]
        self._prompts: OrderedDict[str, Prompt] = OrderedDict()
        self._clock = 0
        self._misses = 0

    def __len__(self) -> int:
        return len(self._slots)

    def take(self, prompt: Prompt, holdings: Holdings | None = None) -> int | None:
        """Choose a slot for a prompt, and note that the prompt runs there; `free` must follow.

        The one that runs most of the prompt now, which makes the request wait; else the idle slot
        that gains most: what it shares with the prompt, less the part of what it would lose that
        may be asked for again.

        Args:
            holdings: what the engine says that the slots hold; without, what we sent counts.

        Returns:
            The slot's number; None to leave the choice to the server.
        """
        if self._are_emptied(holdings):
            return None
        shared = {slot.number: self._shared(slot, prompt, holdings) for slot in self._slots}
        nearest = max(self._slots, key=lambda slot: (shared[slot.number], not slot.num_running))
        most = shared[nearest.number]
        if nearest.num_running and most and 2 * most >= prompt.tokens:
            return self._run(nearest, prompt)
        idle = sorted(
            (slot for slot in self._slots if not slot.num_running), key=attrgetter("used")
        )
        if not idle:
            return None
        gains = [
            shared[slot.number]
            - self._recurrence(age, len(idle))
            * max(0, self._tokens(slot, holdings) - shared[slot.number])
            for age, slot in enumerate(idle)
        ]
        return self._run(idle[gains.index(max(gains))], prompt)

    def put(self, number: int, prompt: Prompt) -> int:
        """Note that a prompt runs in a slot that the client chose; `free` must follow.

        Numbers beyond the last slot begin anew, as they do in llama-server.
        """
        return self._run(self._slots[number % len(self._slots)], prompt)

    def learn(self, number: int, cached: int) -> None:
        """Compare what a slot should have held of its last prompt with what it held, in tokens."""
        expected = self._slots[number].expected
        if expected >= _WORTH:
            self._misses = 0 if 2 * cached >= expected else self._misses + 1

    def free(self, number: int) -> None:
        """Note that a request that took this slot has ended."""
        slot = self._slots[number]
        slot.num_running = max(0, slot.num_running - 1)

    def forget(self, number: int, request: str) -> None:
        """Note that nobody knows whether a request ever came to its slot."""
        if self._slots[number].last.request == request:
            self._slots[number].last = NO_PROMPT

    def clear(self) -> None:
        """Forget what the slots hold: the engine restarted."""
        for slot in self._slots:
            slot.last = NO_PROMPT
        self._prompts.clear()
        self._misses = 0

    @staticmethod
    def _recurrence(age: int, count: int) -> float:
        """Return how likely a slot's content is asked for again; 0 is the one not used longest."""
        return _RECURS_OLDEST + (_RECURS_NEWEST - _RECURS_OLDEST) * age / max(1, count - 1)

    def _are_emptied(self, holdings: Holdings | None) -> bool:
        """Return whether the server empties idle slots into its RAM cache."""
        if holdings is None:
            return self._misses >= _MAX_MISSES
        return holdings.has_copies() and any(
            slot.is_told_of(holdings) and slot.last.keys and not holdings.tokens(slot.number)
            for slot in self._slots
        )

    def _run(self, slot: _Slot, prompt: Prompt) -> int:
        self._clock += 1
        slot.used = self._clock
        slot.num_running += 1
        slot.expected = slot.last.shared(prompt)
        slot.last = self._prompts[prompt.request] = prompt
        if len(self._prompts) > _MAX_PROMPTS:
            self._prompts.popitem(last=False)
        return slot.number

    def _shared(self, slot: _Slot, prompt: Prompt, holdings: Holdings | None) -> int:
        if holdings is None or not slot.is_told_of(holdings):
            return slot.last.shared(prompt)
        held = ((self._prompts.get(name), n) for name, n in holdings.requests(slot.number))
        return max((min(p.shared(prompt), n) for p, n in held if p is not None), default=0)

    def _tokens(self, slot: _Slot, holdings: Holdings | None) -> int:
        if holdings is None or not slot.is_told_of(holdings):
            return slot.last.tokens
        return holdings.tokens(slot.number)

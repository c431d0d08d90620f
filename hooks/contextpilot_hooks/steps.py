"""What passes from the scheduler's thread, which knows the tree, to the reporter's (SGLang).

The scheduler hands over small steps, in the order in which things happened; the ledger applies them
on the reporter's thread, where the requests are known.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Hashable, Iterable
from typing import Any, NamedTuple

from .ledger import MAX_REQUESTS, Event, Ledger
from .units import packed

MAX_TOKENS = 1 << 25
"""Bound on the summed lengths of prompts that are kept: 256 MB."""
SLICE = 64
_MAX_STEPS = 8192


class Admitted(NamedTuple):
    """A request with our id; `tokens` is its prompt."""

    request: str
    tokens: Iterable[int]
    namespace: Hashable


class Emptied(NamedTuple):
    """The tree was reset. With `lost`, changes were missed: no request is followed any more."""

    lost: bool = False


class StepLedger(Ledger):
    """A ledger that is handed steps. `page_size` is in units of the tree's keys (see `units`).

    paired: the keys are pairs of tokens. A request must then share one token more than it reuses,
    which is told as `ahead`.
    """

    def __init__(
        self,
        page_size: int,
        max_requests: int = MAX_REQUESTS,
        max_tokens: int = MAX_TOKENS,
        paired: bool = False,
    ) -> None:
        super().__init__(max_requests)
        if page_size < 1:
            raise ValueError(f"page_size must be at least 1 token, got {page_size}")
        self.page_size = page_size
        self.max_tokens = max_tokens
        self.paired = paired
        self.ahead = page_size if paired else 0  # what is told is whole pages
        self.granule = page_size
        self._start_over()

    def _start_over(self) -> None:
        self._steps: deque[Any] = deque()

    def _apply(self, step: Any) -> None:
        """Work off one step, on the reporter's thread."""
        raise NotImplementedError

    # On the scheduler's thread.

    def hand_over(self, step: Any) -> bool:
        """Queue one step, in the order in which things happened.

        False: the queue was full, everything in it is lost, and so is what the caller keeps.
        """
        kept = len(self._steps) < _MAX_STEPS
        if not kept:
            self._steps.clear()
            step = Emptied(lost=True)
        self._steps.append(step)
        self.on_change()
        return kept

    def clear(self) -> None:
        """Note that the whole tree was reset."""
        self.hand_over(Emptied())

    def lose(self) -> None:
        """Changes were missed: no request is followed any more."""
        self.hand_over(Emptied(lost=True))

    # On the reporter's thread.

    def take(self) -> list[Event]:
        self.settle()
        return super().take()

    def forget(self) -> None:
        super().forget()
        self._start_over()

    def settle(self) -> None:
        """Work off what was handed over so far."""
        for number in range(1, len(self._steps) + 1):
            try:
                step = self._steps.popleft()
            except IndexError:
                break
            self._apply(step)
            if number % SLICE == 0:
                time.sleep(0)  # lets the scheduler have the interpreter

    def _packed(self, tokens: Iterable[Any]) -> bytes:
        return packed(tokens, self.paired)

    def _told(self, length: int, prompt_tokens: int) -> int:
        """The tokens that a request must share to reuse `length` units."""
        if not self.ahead or not length:
            return length
        return min(length + self.ahead, prompt_tokens // self.page_size * self.page_size)

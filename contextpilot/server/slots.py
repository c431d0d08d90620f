"""Which slot of a llama-server a request should take.

Each slot holds the prompt that it ran last. By itself the server takes the most similar slot, even
if that drops a long unrelated conversation while another slot is empty (llama.cpp b11434).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contextpilot.block import BlockKey


@dataclass
class _Slot:
    number: int
    keys: tuple[BlockKey, ...] = ()
    ends: tuple[int, ...] = ()
    num_running: int = 0
    used: int = 0

    @property
    def tokens(self) -> int:
        return self.ends[-1] if self.ends else 0

    def shared(self, keys: Sequence[BlockKey]) -> int:
        """Return the tokens of the common head of this slot's prompt and another."""
        common = 0
        for mine, other in zip(self.keys, keys, strict=False):
            if mine != other:
                break
            common += 1
        return self.ends[common - 1] if common else 0


class Slots:
    """The slots of one engine, as far as our own requests tell. For use on one thread."""

    def __init__(self, count: int) -> None:
        self._slots = [_Slot(number) for number in range(count)]
        self._clock = 0

    def __len__(self) -> int:
        return len(self._slots)

    def take(self, keys: Sequence[BlockKey], ends: Sequence[int]) -> int | None:
        """Choose a slot for a prompt, and note that the prompt runs there; `free` must follow.

        An idle slot that holds most of the prompt, or of whose prompt most is kept; else the one
        that runs most of the prompt now, which makes the request wait; else the idle slot that
        loses least.

        Args:
            keys: the prompt's path in the index.
            ends: for each key the prompt tokens up to its end.

        Returns:
            The slot's number; None to leave the choice to the server.
        """
        total = ends[-1] if ends else 0
        nearest = max(self._slots, key=lambda slot: (slot.shared(keys), not slot.num_running))
        shared = nearest.shared(keys)
        idle = [slot for slot in self._slots if not slot.num_running]
        if shared and 2 * shared >= (min(total, nearest.tokens) if nearest in idle else total):
            return self._run(nearest, keys, ends)
        if not idle:
            return None
        return self._run(min(idle, key=lambda slot: (slot.tokens > 0, slot.used)), keys, ends)

    def free(self, number: int) -> None:
        """Note that a request that took this slot has ended."""
        slot = self._slots[number]
        slot.num_running = max(0, slot.num_running - 1)

    def clear(self) -> None:
        """Forget what the slots hold: the engine restarted."""
        for slot in self._slots:
            slot.keys, slot.ends = (), ()

    def _run(self, slot: _Slot, keys: Sequence[BlockKey], ends: Sequence[int]) -> int:
        self._clock += 1
        slot.used = self._clock
        slot.num_running += 1
        slot.keys, slot.ends = tuple(keys), tuple(ends)
        return slot.number

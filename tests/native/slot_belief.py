"""What an index may believe of slots, from events alone, checked against what is really there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any


class Belief:
    """Makes up a name for each token that an event announces; follows the names from then on.

    `compare` takes the tokens that are really in the slots: the lengths must agree, and one name
    must stand for the same token whenever it is seen. What events call left is then left.
    """

    def __init__(self) -> None:
        self.slots: defaultdict[int, list[int]] = defaultdict(list)
        self.copies: dict[str, list[int]] = {}
        self.meaning: dict[int, int] = {}
        self._names = count()
        self._read = 0

    def read(self, events: Sequence[dict[str, Any]]) -> None:
        """Apply those of `events` that were not there the last time."""
        for event in events[self._read :]:
            getattr(self, f"_{event['event']}")(event)
        self._read = len(events)

    def compare(self, truth: Mapping[int, Sequence[int]]) -> None:
        """AssertionError where belief and truth differ; slots that truth lacks are empty."""
        held = {slot: len(names) for slot, names in self.slots.items() if names}
        expected = {slot: len(tokens) for slot, tokens in truth.items() if tokens}
        assert held == expected, (held, expected)
        for slot, tokens in truth.items():
            for name, token in zip(self.slots[slot], tokens, strict=True):
                assert self.meaning.setdefault(name, token) == token, (slot, name)

    def _slot(self, event: dict[str, Any]) -> None:
        held = self.slots[event["slot"]]
        assert event["keep"] <= len(held), event
        grown = event["tokens"] - event["keep"]
        held[event["keep"] :] = [next(self._names) for _ in range(grown)]

    def _copied(self, event: dict[str, Any]) -> None:
        self.slots[event["to"]] = list(self.slots[event["slot"]])

    def _saved(self, event: dict[str, Any]) -> None:
        self.copies[event["copy"]] = list(self.slots[event["slot"]])

    def _loaded(self, event: dict[str, Any]) -> None:
        assert event["copy"], "a copy that was made under our eyes is always recognised"
        take = self.copies.get if event["copy"].startswith("file-") else self.copies.pop
        self.slots[event["slot"]] = list(take(event["copy"], []))[: event["tokens"]]

    def _cleared(self, event: dict[str, Any]) -> None:
        self.slots.clear()

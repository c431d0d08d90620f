"""A request's path by name: its blocks, where they end, and what an engine told of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from contextpilot.block import BlockKey
from contextpilot.radix import Node

Points = tuple[tuple[int, int], ...]
"""Lengths at which a prompt can be reused: ranges, first and last, ascending, of whole granules."""


class Told(NamedTuple):
    """What an engine says of a request.

    Attributes:
        tokens: of its prompt that are in the cache, as the engine counts them.
        prompt_tokens: the engine's count of the whole prompt, which corrects the estimate.
        slack: tokens that a block may lack and still count as held.
        points: where the engine can reuse the prompt; None for every granule of `tokens`.
    """

    tokens: int
    prompt_tokens: int | None = None
    slack: int = 0
    points: Points | None = None


def point_below(points: Points, tokens: int) -> int:
    """Return the largest of these lengths, in tokens, that is not above `tokens`; 0 for none."""
    at = bisect_right(points, tokens, key=_first) - 1
    return min(points[at][1], tokens) if at >= 0 else 0


def stops(ends: Sequence[int], points: Points, granule: int) -> tuple[int, ...]:
    """Return the numbers of leading blocks after which a prompt can be reused, ascending.

    A block of which less than a granule is missing counts, as ever.

    Args:
        ends: for each block the prompt tokens up to its end.
    """
    found: list[int] = []
    for number, end in enumerate(ends if points else (), start=1):
        whole = end // granule * granule
        if point_below(points, whole) == whole:
            found.append(number)
    return tuple(found)


def _first(reach: tuple[int, int]) -> int:
    return reach[0]


class NamedPath:
    """A named path; `ends` and `total` are estimates until the engine counts the prompt.

    `told` are the tokens that the engine said to hold, and `kept` the leading blocks within them;
    None before it said anything. `has_credit`: more than that is believed. `points`: where it said
    that the prompt can be reused, `stops`: after how many blocks, `said_of`: the tree at that time.
    """

    __slots__ = (
        *("ahead", "ends", "has_credit", "kept", "keys", "points", "said_of", "stops", "ticket"),
        *("told", "total"),
    )

    def __init__(
        self, keys: tuple[BlockKey, ...], ends: tuple[int, ...], total: int, ticket: int
    ) -> None:
        self.keys = keys
        self.ends = ends
        self.total = total
        self.ticket = ticket
        self.ahead = 0
        self.kept: int | None = None
        self.told: int | None = None
        self.points: Points = ()
        self.stops: tuple[int, ...] = ()
        self.said_of: Node | None = None
        self.has_credit = True

    def count(self, prompt_tokens: int | None) -> None:
        """Learn the engine's count of the whole prompt, which corrects the estimates."""
        if prompt_tokens and self.total and prompt_tokens != self.total:
            scale = prompt_tokens / self.total
            self.ends = tuple(round(end * scale) for end in self.ends)
            self.total = prompt_tokens

    def put_ahead(self, tokens: int) -> None:
        """Learn that so many tokens, as estimated, were put in front of what was planned."""
        if self.told is None and tokens != self.ahead:
            more, self.ahead = tokens - self.ahead, tokens
            self.ends = tuple(end + more for end in self.ends)
            self.total += more

    def blocks_within(self, tokens: int) -> int:
        """Return how many leading blocks end within so many tokens; none within 0."""
        return bisect_right(self.ends, tokens) if tokens > 0 else 0

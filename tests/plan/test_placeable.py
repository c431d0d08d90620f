"""Which of a context's blocks may move, and what follows what was placed."""

from __future__ import annotations

import pytest

from contextpilot.block import Block, BlockKey
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.placeable import Placeable

BLOCKS = [Block(key, str(key), 100, key) for key in range(5)]
KEYS = [block.key for block in BLOCKS]


@pytest.mark.parametrize("anchor", ["auto", "none", "moved", "end"])
@pytest.mark.parametrize("placed", [[], [KEYS[2]], [KEYS[3], KEYS[1]]])
def test_what_is_placed_or_anchored_is_not_free(anchor: str, placed: list[BlockKey]) -> None:
    bounds = Bounds(displacement_cost=0, anchor=anchor, anchor_blocks=1, pin_first=0)
    placeable = Placeable(BLOCKS, bounds)
    assert placeable.anchored == ([KEYS[0]] if anchor in ("moved", "end") else [])
    free = [key for key in KEYS if key not in placed and key not in placeable.anchored]
    assert list(placeable.rest(placed)) == free
    follows = free if anchor == "end" else [key for key in KEYS if key not in placed]
    assert list(placeable.given(placed)) == follows


def test_pinned_blocks_are_not_anchored() -> None:
    placeable = Placeable(BLOCKS, Bounds(anchor="end", anchor_blocks=3, pin_first=2))
    assert placeable.pinned == KEYS[:2]
    assert placeable.anchored == [KEYS[2]]

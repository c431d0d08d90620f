"""Batches whose contexts share nearly all: what is compared grows hardly faster than the batch."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plans import grow, leaves_below

from contextpilot.plan.bounds import Bounds
from contextpilot.plan.overlaps import partners
from contextpilot.plan.overlaps.base import Ints, Pairs, pairs_by_row
from contextpilot.plan.overlaps.cpu import CPU
from contextpilot.plan.tree import agglomerate

Draw = random.Random
BASE = range(20)
SHAPES: dict[str, Callable[[Draw, int], list[int]]] = {
    "own": lambda draw, own: [*BASE, own],
    "one_less": lambda draw, own: [*draw.sample(BASE, 19), own],
    "groups": lambda draw, own: [*(30 + own % 3 * 20 + block for block in BASE), own],
}


class Counting:
    """Overlaps as the CPU computes them; counts what is looked at for it."""

    def __init__(self) -> None:
        self.pairs = 0

    def strong_pairs(
        self, searched: Any, postings: Any, own: Ints, share: float
    ) -> Iterator[Pairs]:
        self.pairs += int(pairs_by_row(searched, postings).sum())
        return CPU.strong_pairs(searched, postings, own, share)


def pairs_looked_at(shape: str, count: int) -> int:
    draw, counting = Draw(1), Counting()
    contexts = [SHAPES[shape](draw, 100 + number) for number in range(count)]
    orders = [np.array(draw.sample(blocks, len(blocks))) for blocks in contexts]
    agglomerate(orders, np.full(100 + count, 256), Bounds(), arithmetic=counting)
    return counting.pairs


@pytest.mark.parametrize("shape", SHAPES)
def test_pairs_grow_no_faster_than_the_contexts(shape: str) -> None:
    few, many = pairs_looked_at(shape, 400), pairs_looked_at(shape, 1600)
    assert many <= 5 * few + 1000


def test_of_pairs_that_nearly_all_are_strong_few_are_ranked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ranked: list[int] = []
    original = partners._foremost

    def foremost(row: Ints, *keys: Any) -> Ints:
        ranked.append(len(row))
        return original(row, *keys)

    monkeypatch.setattr(partners, "_foremost", foremost)
    draw, count = Draw(1), 500
    drawn = (draw.sample(range(20, 40), 5) for _ in range(count))
    sets = [frozenset([*BASE, *own]) for own in drawn]
    grow(sets, [256] * 40)
    assert 0 < ranked[0] < count**2 // 20


def test_blocks_that_one_context_holds_part_no_others() -> None:
    sets = [frozenset({1, 2, 10 + number}) for number in range(5)]
    tree = grow([*sets, frozenset({1, 3, 9})], [1] * 20)
    assert tree.children[6] == [0, 1, 2, 3, 4]
    assert sorted(tree.shared[6].tolist()) == [1, 2]
    assert sorted(leaves_below(tree, tree.roots[0])) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("least", [4, 5])
def test_what_is_not_worth_a_merge_is_worth_none_of_many(least: int) -> None:
    sets = [frozenset({1, 10 + number}) for number in range(5)]
    tree = grow(sets, [4] * 20, least)
    assert len(tree.roots) == (1 if least == 4 else 5)


@pytest.mark.parametrize(("cost", "together"), [(5, range(8)), (40, [1, 3, 5, 7])])
def test_those_stay_apart_that_would_move_too_far(cost: int, together: Sequence[int]) -> None:
    """Half of them hold the block in last place."""
    orders = [[0, *range(10 * n, 10 * n + 9)] for n in range(1, 9)]
    orders = [order if n % 2 else order[::-1] for n, order in enumerate(orders)]
    numbers = [np.array(order) for order in orders]
    tree = agglomerate(numbers, np.full(100, 20), Bounds(displacement_cost=cost, anchor="none"))
    (root,) = [root for root in tree.roots if root >= tree.num_contexts]
    assert sorted(leaves_below(tree, root)) == [*together]


rows = st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=12), min_size=1, max_size=6)


@given(rows, st.integers(1, 5))
def test_the_greatest_of_each_row_are_kept_with_their_ties(
    overlaps: list[list[int]], most: int
) -> None:
    row = np.repeat(np.arange(len(overlaps)), [len(some) for some in overlaps])
    values = np.concatenate([np.array(some, np.int32) for some in overlaps])
    kept = partners._greatest(row, most, values)
    assert kept.tolist() == sorted(kept.tolist())
    for number, some in enumerate(overlaps):
        found = sorted(values[[at for at in kept if row[at] == number]].tolist())
        least = found[0]
        assert found == sorted(value for value in some if value >= least)
        assert len(found) >= min(most, len(some))
        if len(overlaps) == 1:
            assert len([value for value in some if value > least]) < most

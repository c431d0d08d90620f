"""The best of all plans of small batches, beside every plan that there is."""

from __future__ import annotations

import sys
from itertools import permutations, product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from bench_price_gap import footrule, instances, optimum, planned, worth

from contextpilot.block import Block

WEIGHTS = [40, 70, 100, 130]
contexts = st.lists(
    st.lists(st.integers(0, 3), unique=True, min_size=1, max_size=3), min_size=1, max_size=3
)


def blocks_of(numbers: list[int]) -> list[Block]:
    return [Block(number, str(number), WEIGHTS[number], number) for number in numbers]


@given(contexts, st.sampled_from([0, 20, 60, 200]))
@settings(max_examples=40, deadline=None)
def test_no_plan_is_worth_more_than_the_best_and_one_is_worth_it(
    numbers: list[list[int]], price: int
) -> None:
    batch = [blocks_of(own) for own in numbers]
    plans = product(*(permutations(range(len(own))) for own in batch))
    most = max(worth(batch, plan, price, footrule).value for plan in plans)
    best = optimum(batch, price, footrule)
    assert best.value == pytest.approx(most)
    assert best.value == pytest.approx(best.hits - price * best.displaced)
    assert worth(batch, planned(batch, price), price, footrule).value <= most + 1e-9


def test_an_instance_holds_the_requests_that_are_most_alike() -> None:
    batch = [blocks_of(own) for own in ([0, 1, 2], [3, 2], [0, 1, 3], [0, 1, 2])]
    for found in instances(batch, 4, 2, 3):
        first, second = ({block.key for block in own} for own in found)
        assert len(found) == 2
        assert first & second

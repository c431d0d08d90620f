"""Displacement bounds: what may move, and how far."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextpilot.plan.bounds import Bounds

orders = st.integers(0, 30).flatmap(lambda n: st.permutations(range(n)))


@given(orders, st.integers(0, 31))
def test_no_rank_moves_further_than_max_shift(order: list[int], shift: int) -> None:
    limited = Bounds(max_shift=shift).limit_shift(order)
    assert sorted(limited) == list(range(len(order)))
    assert all(abs(position - rank) <= shift for position, rank in enumerate(limited))


@given(orders)
def test_an_order_within_the_bound_stays(order: list[int]) -> None:
    shift = max((abs(position - rank) for position, rank in enumerate(order)), default=0)
    assert Bounds(max_shift=shift).limit_shift(order) == order
    assert Bounds().limit_shift(order) == order


@pytest.mark.parametrize("shift", [0, 1, 2, 3])
def test_the_limited_order_is_the_lexicographically_nearest(shift: int) -> None:
    """At each position stands the first wanted rank with which the rest can still be placed."""
    n = 5
    feasible = [
        p for p in permutations(range(n)) if all(abs(i - r) <= shift for i, r in enumerate(p))
    ]
    for order in permutations(range(n)):
        turn = {rank: i for i, rank in enumerate(order)}
        nearest = min(feasible, key=lambda p: [turn[rank] for rank in p])
        assert tuple(Bounds(max_shift=shift).limit_shift(order)) == nearest


@pytest.mark.parametrize("name", ["pin_first", "max_shift", "min_gain_tokens"])
@pytest.mark.parametrize(
    ("value", "error"), [(-1, ValueError), (True, TypeError), (1.0, TypeError), ("1", TypeError)]
)
def test_wrong_bounds_are_named(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        Bounds(**{name: value})


@pytest.mark.parametrize("name", ["pin_first", "min_gain_tokens"])
def test_only_max_shift_may_be_none(name: str) -> None:
    assert Bounds(max_shift=None).max_shift is None
    with pytest.raises(TypeError, match=name):
        Bounds(**{name: None})

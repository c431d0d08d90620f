"""Quantiles and intervals with known answers."""

from __future__ import annotations

import numpy as np
import pytest

from contextpilot.bench.statistics import LEVEL, Spread, mean_of, ratio_of_sums


def test_quantiles_are_interpolated() -> None:
    spread = Spread.of([float(value) for value in range(101)])
    assert spread == (50.0, 50.0, 95.0, 99.0)
    assert Spread.of([3.0]) == (3.0, 3.0, 3.0, 3.0)
    assert Spread.of([1.0, 2.0]).p50 == 1.5


def test_a_constant_ratio_has_no_spread() -> None:
    below = [0.5, 1.0, 4.0, 2.0]
    found = ratio_of_sums([2 * value for value in below], below)
    assert found == pytest.approx((2.0, 2.0, 2.0))
    assert ratio_of_sums([3.0], [2.0]) == (1.5, 1.5, 1.5)
    assert ratio_of_sums(below, below).as_dict() == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_pairs_cancel_what_both_sides_share() -> None:
    noise = np.random.default_rng(3).uniform(0.2, 5.0, 200)
    paired = ratio_of_sums(list(2 * noise), list(noise))
    shuffled = ratio_of_sums(list(2 * noise), list(noise[::-1]))
    assert paired.high - paired.low < 1e-9
    assert shuffled.high - shuffled.low > 0.1


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    chance = np.random.default_rng(7)
    rounds, held = 300, 0
    for _ in range(rounds):
        found = mean_of(list(chance.normal(1.0, 0.3, 40)), rounds=400)
        held += found.low <= 1.0 <= found.high
    assert LEVEL - 0.06 <= held / rounds <= 1.0


def test_the_mean_of_ones_and_zeros() -> None:
    found = mean_of([1.0] * 30 + [0.0] * 10)
    assert found.value == 0.75
    assert 0.5 < found.low < 0.75 < found.high < 0.95
    assert mean_of([1.0, 0.0, 1.0], seed=4) == mean_of([1.0, 0.0, 1.0], seed=4)


def test_what_cannot_be_computed_is_refused() -> None:
    with pytest.raises(ValueError, match="not be empty"):
        Spread.of([])
    with pytest.raises(ValueError, match="not be empty"):
        mean_of([])
    with pytest.raises(ValueError, match="same length"):
        ratio_of_sums([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="above 0"):
        ratio_of_sums([1.0, 1.0], [1.0, 0.0])

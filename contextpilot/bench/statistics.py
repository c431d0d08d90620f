"""Quantiles and bootstrap confidence intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
ROUNDS = 4000
_BATCH = 500
"""Rounds that are in memory at once."""

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """A value and its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """Return the three numbers by name, rounded to six digits after the point."""
        return {name: round(number, 6) for name, number in self._asdict().items()}


class Spread(NamedTuple):
    """How times are spread, in seconds."""

    mean: float
    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return mean and quantiles (linear interpolation). Raises ValueError without values."""
        if not len(values):
            raise ValueError("values must not be empty")
        p50, p95, p99 = np.quantile(np.asarray(values, float), (0.5, 0.95, 0.99)).tolist()
        return cls(float(np.mean(values)), p50, p95, p99)


def ratio_of_sums(
    above: Sequence[float], below: Sequence[float], seed: int = 0, rounds: int = ROUNDS
) -> Interval:
    """Return sum(above) / sum(below) with its interval, by resampling pairs.

    `above[i]` and `below[i]` are measured on the same thing (a request, a slice of requests), so
    that both change together with what is easy or hard, quiet or noisy about it.

    Raises:
        ValueError: the lengths differ, there are no pairs, or one of `below` is not above 0.
    """
    first, second = np.asarray(above, float), np.asarray(below, float)
    if first.shape != second.shape or first.ndim != 1 or not first.size:
        raise ValueError("above and below must be of the same length, and not empty")
    if not (second > 0).all():
        raise ValueError("below must be above 0 everywhere")
    return _interval((first, second), _ratio, seed, rounds)


def mean_of(values: Sequence[float], seed: int = 0, rounds: int = ROUNDS) -> Interval:
    """Return the mean with its interval, by resampling. Raises ValueError without values."""
    given = np.asarray(values, float)
    if given.ndim != 1 or not given.size:
        raise ValueError("values must not be empty")
    return _interval((given,), np.mean, seed, rounds)


def _ratio(above: Floats, below: Floats, axis: int = -1) -> Any:
    return above.sum(axis=axis) / below.sum(axis=axis)


def _interval(
    samples: tuple[Floats, ...], statistic: Callable[..., Any], seed: int, rounds: int
) -> Interval:
    from scipy.stats import bootstrap  # takes long to import

    value = float(statistic(*samples, axis=-1))
    if samples[0].size == 1:  # SciPy wants two
        return Interval(value, value, value)
    found = bootstrap(
        samples, statistic, n_resamples=rounds, batch=_BATCH, vectorized=True, paired=True,
        confidence_level=LEVEL, method="percentile", random_state=np.random.default_rng(seed),
    )  # fmt: skip
    low, high = found.confidence_interval
    return Interval(value, float(low), float(high))

"""How many requests an engine takes at once before it queues them itself."""

from __future__ import annotations

import math
from collections import deque

from contextpilot.engines.load import read_load

_LEAST_SAMPLES, _MOST_SAMPLES = 3, 6


class ConcurrencyLimit:
    """A bound on the requests in flight at an engine: given, or learnt from its own queue.

    While nothing is known there is no bound. An engine that queues in several samples in a row is
    full, and the most that it ran in any of them is the bound: a single one can catch it while it
    admits a batch one by one, or prefills a long prompt. While it queues none and the bound holds
    requests back, the bound rises, first by a tenth, then twice as much each time.

    Args:
        given: the bound; None to learn it.
    """

    def __init__(self, given: int | None = None) -> None:
        if given is not None and given < 1:
            raise ValueError(f"max_in_flight must be at least 1, not {given}")
        self._is_given = given is not None
        self._full: deque[int] = deque(maxlen=_MOST_SAMPLES)
        self._step = 0
        self.value: float = math.inf if given is None else given

    @property
    def is_known(self) -> bool:
        """Whether there is a bound."""
        return not math.isinf(self.value)

    def learn_slots(self, slots: int) -> None:
        """Take the engine's own number of places, unless a bound was given."""
        if not self._is_given and slots > 0:
            self.value, self._is_given = slots, True

    def observe(self, metrics: str, in_flight: int) -> None:
        """Learn from the engine's metrics, in Prometheus' text format."""
        if self._is_given:
            return
        load = read_load(metrics)
        if load is None:
            return
        if load.waiting and load.running:
            self._step = 0
            self._full.append(load.running)
            if len(self._full) >= _LEAST_SAMPLES:
                self.value = max(1, *self._full)
            return
        self._full.clear()
        if self.is_known and in_flight >= self.value:
            self._step = 2 * self._step or max(1, int(self.value) // 10)
            self.value += self._step

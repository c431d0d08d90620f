"""How many requests an engine takes at once before it queues them itself."""

from __future__ import annotations

import math
import re

_RUNNING = ("vllm:num_requests_running", "sglang:num_running_reqs", "llamacpp:requests_processing")
_QUEUED = ("vllm:num_requests_waiting", "sglang:num_queue_reqs", "llamacpp:requests_deferred")
_SAMPLE = re.compile(
    rf"^({'|'.join(_RUNNING + _QUEUED)})(?:\{{[^\n]*\}})?[ \t]+(\d[\d.]*(?:[eE][+-]?\d+)?)(?=\s|$)",
    re.MULTILINE,
)


class Limit:
    """A bound on the requests in flight at an engine: given, or learnt from its own queue.

    While nothing is known there is no bound. An engine that queues shows how many it runs; while
    it queues none and the bound holds requests back, the bound rises by a tenth.

    Args:
        given: the bound; None to learn it.
    """

    def __init__(self, given: int | None = None) -> None:
        if given is not None and given < 1:
            raise ValueError(f"max_in_flight must be at least 1, not {given}")
        self._is_given = given is not None
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
        samples = [(name, float(value)) for name, value in _SAMPLE.findall(metrics)]
        queued = [value for name, value in samples if name in _QUEUED]
        running = sum(value for name, value in samples if name in _RUNNING)
        if not queued:
            return
        if sum(queued) > 0 and running:
            self.value = max(1, int(running))
        elif self.is_known and in_flight >= self.value:
            self.value += max(1, int(self.value) // 10)

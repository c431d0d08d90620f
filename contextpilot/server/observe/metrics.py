"""Counters of the server in Prometheus' text format. Tokens, no ratios; no tenants, no prompts."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any, NamedTuple

from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric

PREFIX = "contextpilot_"
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)

COUNTERS = {
    "requests_total": "Requests of the proxy, by API and what was done.",
    "unplanned_total": "Requests of the proxy that were not planned, by reason.",
    "refused_total": "Requests of the proxy that were refused, by reason.",
    "plan_failures_total": "Requests that were not planned because planning failed.",
    "prefix_cache_queries_total": "Prompt tokens, as the engines counted them.",
    "prefix_cache_hits_total": "Prompt tokens from the prefix cache, as the engines counted them.",
    "planned_tokens_total": "Tokens of planned blocks, as estimated.",
    "expected_hits_tokens_total": "Tokens of planned blocks believed to be cached.",
    "reachable_tokens_total": "Tokens of planned blocks seen before, in any order.",
    "dedup_tokens_saved_total": "Tokens that deduplication removed from prompts, as estimated.",
    "volatile_heads_total": "Requests whose head changes with every request, by kind.",
    "upstream_errors_total": "Attempts at an engine that failed, by status.",
    "client_disconnects_total": "Clients that left before their answer ended.",
    "broken_answers_total": "Engine answers that broke off.",
}
HISTOGRAMS = {
    "plan_seconds": "Time to plan and write a request.",
    "wait_seconds": "Waiting time of requests for an engine.",
    "time_to_first_byte_seconds": "From a request's arrival to its answer's first byte.",
    "request_seconds": "From a request's arrival to its answer's last byte.",
}
_ENGINE_GAUGES = {
    "engine_up": ("up", "Whether an engine answers."),
    "engine_in_flight": ("in_flight", "Requests at an engine."),
    "engine_waiting": ("waiting", "Requests that wait for an engine."),
    "engine_last_event_age_seconds": ("last_event_age_s", "Age of an engine's last event."),
}
_SYNC_STATES = ("exact", "approximate", "off")
_Labels = tuple[tuple[str, str], ...]


class Histogram:
    """Counts per bucket of seconds."""

    def __init__(self) -> None:
        self.counts = [0] * (len(_SECONDS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one time."""
        self.counts[bisect_left(_SECONDS, seconds)] += 1
        self.sum += seconds


class Metrics:
    """What the server counted since its start. Thread-safe.

    Counted by hand: a library's counter has its labels named beforehand and adds times of creation.
    """

    def __init__(self) -> None:
        self._counters: dict[str, Counter[_Labels]] = {name: Counter() for name in COUNTERS}
        self._histograms = {name: Histogram() for name in HISTOGRAMS}
        self._lock = threading.Lock()
        self.in_progress = 0

    def add(self, name: str, value: int = 1, **labels: str) -> None:
        """Add to a counter; the label values are of a fixed few."""
        with self._lock:
            self._counters[name][tuple(sorted(labels.items()))] += value

    def observe(self, name: str, seconds: float) -> None:
        """Count one time in a histogram."""
        with self._lock:
            self._histograms[name].observe(seconds)

    def value(self, name: str, **labels: str) -> int:
        """Return a counter's value."""
        return self._counters[name][tuple(sorted(labels.items()))]

    def by_label(self, name: str, label: str) -> Counter[str]:
        """Return a counter's values by one of its labels."""
        sums: Counter[str] = Counter()
        with self._lock:
            for labels, value in self._counters[name].items():
                sums[dict(labels).get(label, "")] += value
        return sums

    def render(
        self,
        engines: Iterable[Mapping[str, Any]],
        stats: Mapping[str, Any],
        held_bytes: int = 0,
    ) -> str:
        """Return everything as text: the counters, the engines' states, the index's sizes.

        Args:
            stats: numbers, or numbers by source; None is not known.
            held_bytes: of the bodies of all requests now.
        """
        with self._lock:
            families = [*self._counter_families(), *self._histogram_families()]
        families.append(
            _gauge("requests_in_progress", "Requests at the proxy now.", self.in_progress)
        )
        families.append(_gauge("request_bodies_bytes", "Request bodies that are held.", held_bytes))
        families += _index_families(stats)
        families += _engine_families(list(engines))
        return generate_latest(_Collected(families)).decode()

    def _counter_families(self) -> Iterator[Metric]:
        for name, help in COUNTERS.items():
            family = Metric(PREFIX + name.removesuffix("_total"), help, "counter")
            for labels, value in sorted(self._counters[name].items()) or [((), 0)]:
                family.add_sample(PREFIX + name, dict(labels), value)
            yield family

    def _histogram_families(self) -> Iterator[Metric]:
        for name, help in HISTOGRAMS.items():
            histogram = self._histograms[name]
            bounds = [*map(str, _SECONDS), "+Inf"]
            buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
            yield HistogramMetricFamily(PREFIX + name, help, buckets, histogram.sum)


class _Collected(NamedTuple):
    """What a registry collects, without one."""

    families: list[Metric]

    def collect(self) -> list[Metric]:
        return self.families


def _engine_families(engines: list[Mapping[str, Any]]) -> Iterator[Metric]:
    for name, (field, help) in _ENGINE_GAUGES.items():
        family = GaugeMetricFamily(PREFIX + name, help, labels=("engine",))
        for engine in engines:
            if engine.get(field) is not None:
                family.add_metric((str(engine["engine"]),), float(engine[field]))
        yield family
    help = "1 for the sync state of an engine."
    family = GaugeMetricFamily(PREFIX + "sync_state", help, labels=("engine", "state"))
    for engine in engines:
        for state in _SYNC_STATES:
            family.add_metric((str(engine["engine"]), state), float(engine["sync"] == state))
    yield family


def _index_families(stats: Mapping[str, Any]) -> Iterator[Metric]:
    help = "Sum over engines and namespaces."
    for name, value in stats.items():
        if isinstance(value, Mapping):
            family = GaugeMetricFamily(f"{PREFIX}index_{name}", help, labels=("source",))
            for source, count in sorted(value.items()):
                family.add_metric((source,), count)
            yield family
        elif value is not None:
            yield _gauge(f"index_{name}", help, value)


def _gauge(name: str, help: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, help, value)

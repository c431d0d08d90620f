"""Counters of the server in Prometheus' text format. Tokens, no ratios; no tenants, no prompts."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

PREFIX = "contextpilot_"
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)

COUNTERS = {
    "requests_total": "Requests of the proxy, by API and what was done.",
    "plan_failures_total": "Requests that went unplanned because planning failed.",
    "prefix_cache_queries_total": "Prompt tokens, as the engines counted them.",
    "prefix_cache_hits_total": "Prompt tokens from the prefix cache, as the engines counted them.",
    "planned_tokens_total": "Tokens of planned blocks, as estimated.",
    "expected_hits_tokens_total": "Tokens of planned blocks believed to be cached.",
    "reachable_tokens_total": "Tokens of planned blocks seen before, in any order.",
    "dedup_tokens_saved_total": "Tokens that deduplication took out of prompts, as estimated.",
    "volatile_heads_total": "Requests whose head changes with every request, by kind.",
    "upstream_errors_total": "Attempts at an engine that failed, by status.",
    "client_disconnects_total": "Clients that went before their answer ended.",
    "broken_answers_total": "Answers of engines that broke off.",
}
HISTOGRAMS = {
    "plan_seconds": "Time to plan and write a request.",
    "wait_seconds": "In the line of requests that wait for an engine.",
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
    """What the server counted since its start. Thread-safe."""

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

    def render(self, engines: Iterable[Mapping[str, Any]], stats: Mapping[str, int]) -> str:
        """Return everything as text: the counters, the engines' states, the index's sizes."""
        with self._lock:
            lines = [*self._counter_lines(), *self._histogram_lines()]
        lines += _gauge("requests_in_progress", "Requests of the proxy now.", self.in_progress)
        for name, value in stats.items():
            lines += _gauge(f"index_{name}", "Sum over engines and namespaces.", value)
        lines += _engine_lines(list(engines))
        return "\n".join(lines) + "\n"

    def _counter_lines(self) -> Iterator[str]:
        for name, help in COUNTERS.items():
            yield from _opening(name, help, "counter")
            counter = self._counters[name]
            for labels, value in sorted(counter.items()) or [((), 0)]:
                yield f"{PREFIX}{name}{_labelled(labels)} {value}"

    def _histogram_lines(self) -> Iterator[str]:
        for name, help in HISTOGRAMS.items():
            yield from _opening(name, help, "histogram")
            histogram, total = self._histograms[name], 0
            for bound, count in zip((*_SECONDS, "+Inf"), histogram.counts, strict=True):
                total += count
                yield f'{PREFIX}{name}_bucket{{le="{bound}"}} {total}'
            yield f"{PREFIX}{name}_sum {histogram.sum:.6f}"
            yield f"{PREFIX}{name}_count {total}"


def _engine_lines(engines: list[Mapping[str, Any]]) -> Iterator[str]:
    for name, (field, help) in _ENGINE_GAUGES.items():
        yield from _opening(name, help, "gauge")
        for engine in engines:
            if engine.get(field) is not None:
                labels = (("engine", str(engine["engine"])),)
                yield f"{PREFIX}{name}{_labelled(labels)} {float(engine[field]):g}"
    yield from _opening("sync_state", "1 for the state that an engine's index is in.", "gauge")
    for engine in engines:
        for state in _SYNC_STATES:
            both = (("engine", str(engine["engine"])), ("state", state))
            yield f"{PREFIX}sync_state{_labelled(both)} {int(engine['sync'] == state)}"


def _gauge(name: str, help: str, value: int) -> Iterator[str]:
    yield from _opening(name, help, "gauge")
    yield f"{PREFIX}{name} {value}"


def _opening(name: str, help: str, kind: str) -> Iterator[str]:
    yield f"# HELP {PREFIX}{name} {help}"
    yield f"# TYPE {PREFIX}{name} {kind}"


def _labelled(labels: _Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels) + "}"

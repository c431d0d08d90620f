"""The text that Prometheus reads: names, kinds and values, as its own parser takes them."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from contextpilot.server.observe.metrics import COUNTERS, HISTOGRAMS, Metrics

STATS = {"namespaces": 2, "requests": 5, "weights": {"learnt": 2}, "weight_ratio": None}


def engine(name: str, **told: Any) -> dict[str, Any]:
    known = {"up": True, "in_flight": 3, "waiting": 0, "last_event_age_s": None, "sync": "exact"}
    return {"engine": name, **known, **told}


def read(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name.removeprefix("contextpilot_"), tuple(sorted(sample.labels.items()))): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_name_is_there_before_anything_was_counted() -> None:
    found = read(Metrics().render([], STATS))
    assert {name for name, _ in found} == {
        *COUNTERS,
        *(f"{name}_{part}" for name in HISTOGRAMS for part in ("bucket", "sum", "count")),
        *("requests_in_progress", "request_bodies_bytes"),
        *("index_namespaces", "index_requests", "index_weights"),
    }
    assert found["index_weights", (("source", "learnt"),)] == 2
    assert not any(name.endswith("_created") for name, _ in found)


def test_counts_come_out_as_they_went_in() -> None:
    metrics = Metrics()
    for seconds in (0.0005, 0.001, 0.3, 1000.0):
        metrics.observe("plan_seconds", seconds)
    metrics.add("requests_total", api="chat", outcome="planned")
    metrics.add("requests_total", 2, outcome="plain", api="messages")
    found = read(metrics.render([], {}))
    assert found["requests_total", (("api", "chat"), ("outcome", "planned"))] == 1
    assert found["requests_total", (("api", "messages"), ("outcome", "plain"))] == 2
    bounds = {"0.001": 2, "0.2": 2, "0.5": 3, "60.0": 3, "+Inf": 4}
    for bound, count in bounds.items():
        assert found["plan_seconds_bucket", (("le", bound),)] == count
    assert found["plan_seconds_count", ()] == 4
    assert found["plan_seconds_sum", ()] == 1000.3015


def test_engines_are_told_with_odd_names_and_without_what_is_unknown() -> None:
    odd = 'http://x/"\\\n'
    found = read(Metrics().render([engine("a"), engine(odd, up=False, sync="off")], {}))
    assert found["engine_up", (("engine", "a"),)] == 1
    assert found["engine_up", (("engine", odd),)] == 0
    assert found["sync_state", (("engine", odd), ("state", "off"))] == 1
    assert found["sync_state", (("engine", "a"), ("state", "off"))] == 0
    assert not any(name == "engine_last_event_age_seconds" for name, _ in found)


def test_the_text_grows_with_the_engines_and_with_nothing_else() -> None:
    metrics, sizes = Metrics(), []
    for num_engines in (0, 32, 64):
        text = metrics.render([engine(f"engine-{n:03}") for n in range(num_engines)], STATS)
        sizes.append(len(text))
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0]
    before = len(read(metrics.render([], STATS)))
    for _ in range(1000):
        metrics.observe("plan_seconds", 0.1)
        metrics.add("upstream_errors_total", status="502")
    assert len(read(metrics.render([], STATS))) == before

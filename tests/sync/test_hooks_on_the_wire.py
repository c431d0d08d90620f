"""What the hooks in an engine send is what the endpoint understands: the two share no code."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from contextpilot_hooks.ledger import Ledger
from contextpilot_hooks.reporter import Reporter
from contextpilot_hooks.settings import Engine, Settings

import contextpilot as cp

TEXTS = [f"{word} " * 40 for word in ("alpha", "beta", "gamma")]


@pytest.fixture
def pilot() -> Iterator[cp.ContextPilot]:
    with cp.ContextPilot(listen="127.0.0.1:0") as listening:
        yield listening


@pytest.fixture
def reporter(pilot: cp.ContextPilot) -> Iterator[Reporter]:
    settings = Settings.from_environ({"CONTEXTPILOT_INDEX_URL": pilot.index_url or ""})
    made = Reporter(Ledger(), settings, Engine("vllm-test", "vllm", "0.33.0", 16))
    yield made
    made.close(0.5)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 20 s"
        time.sleep(0.01)


def matched(pilot: cp.ContextPilot) -> int:
    return pilot.explain(pilot.optimize(TEXTS, "q", namespace="default")).matched_blocks


def test_a_ledgers_changes_reach_the_index(pilot: cp.ContextPilot, reporter: Reporter) -> None:
    request = pilot.optimize(TEXTS, "q").request_id
    total = 4 * (len("".join(TEXTS)) // 10)
    reporter.ledger.set(request, total, total)
    eventually(lambda: pilot.engines().get("vllm-test", {}).get("num_requests") == 1)
    state = pilot.engines()["vllm-test"]
    assert (state["sync"], state["kind"], state["engine_version"]) == ("exact", "vllm", "0.33.0")
    assert matched(pilot) == 3
    reporter.ledger.set(request, 0, total)
    eventually(lambda: pilot.engines()["vllm-test"]["num_events"] == 2)
    assert matched(pilot) == 0


def test_a_reset_reaches_the_index(pilot: cp.ContextPilot, reporter: Reporter) -> None:
    request = pilot.optimize(TEXTS, "q").request_id
    reporter.ledger.set(request, 300, 300)
    eventually(lambda: pilot.engines().get("vllm-test", {}).get("num_requests") == 1)
    reporter.ledger.clear()
    eventually(lambda: pilot.engines()["vllm-test"]["num_requests"] == 0)
    assert matched(pilot) == 0


def test_after_a_gap_the_reporter_sends_all_it_knows(
    pilot: cp.ContextPilot, reporter: Reporter
) -> None:
    request = pilot.optimize(TEXTS, "q").request_id
    reporter.ledger.set(request, 300, 300)
    eventually(lambda: pilot.engines().get("vllm-test", {}).get("num_requests") == 1)
    receiver = pilot._receiver
    receiver._engines.clear()  # as an index server that was restarted
    reporter.ledger.set("cp-" + "0" * 24, 16, 300)
    eventually(lambda: "vllm-test" in pilot.engines())
    eventually(lambda: pilot.engines()["vllm-test"]["sync"] == "exact")
    eventually(lambda: pilot.engines()["vllm-test"]["num_requests"] == 1)
    assert matched(pilot) == 3

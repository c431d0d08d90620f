"""Explanations and statistics: what hit, where the hit ended, and why."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import contextpilot as cp
from contextpilot.explain import Explanation, Explanations

A, B, C, D = (f"Document {c}\n" + c * 800 for c in "ABCD")


def reason(pilot: cp.ContextPilot, context: list[str], **options: Any) -> str:
    return pilot.explain(pilot.optimize(context, "q", **options)).reason


def test_the_first_request_is_cold() -> None:
    pilot = cp.ContextPilot()
    messages = pilot.optimize([A, B], "q")
    explained = pilot.explain(messages)
    assert explained.reason.startswith("cold")
    assert (explained.matched_blocks, explained.matched_tokens) == (0, 0)
    assert explained.first_miss == "Document A"
    assert explained.total_tokens > 0 == explained.reachable_tokens
    assert pilot.explain(messages.request_id) == explained


def test_every_block_live() -> None:
    pilot = cp.ContextPilot()
    pilot.optimize([A, B], "q")
    explained = pilot.explain(pilot.optimize([B, A], "q"))
    assert explained.reason == "every block is live"
    assert explained.first_miss is None
    assert explained.matched_tokens == explained.total_tokens == explained.reachable_tokens > 0


def test_new_block() -> None:
    pilot = cp.ContextPilot()
    pilot.optimize([A, B], "q")
    messages = pilot.optimize([C, A], "q")
    explained = pilot.explain(messages)
    assert explained.reason.startswith("new block")
    assert explained.matched_blocks == 1
    assert explained.first_miss == "Document C"
    assert 0 < explained.reachable_tokens < explained.total_tokens


def test_other_order() -> None:
    pilot = cp.ContextPilot()
    pilot.optimize([A, B], "q")
    assert reason(pilot, [B, A], reorder=False).startswith("other order")


def test_new_combination() -> None:
    pilot = cp.ContextPilot()
    pilot.optimize([A, B], "q")
    pilot.optimize([C, D], "q")
    assert reason(pilot, [A, D]).startswith("new combination")


def test_new_head() -> None:
    pilot = cp.ContextPilot()
    pilot.optimize([A, B], "q", system_instruction="one")
    assert reason(pilot, [A, B], system_instruction="two").startswith("new head")
    assert reason(pilot, [A, B], system_instruction="one") == "every block is live"


def test_evicted() -> None:
    pilot = cp.ContextPilot()
    messages = pilot.optimize([A, B], "q")
    index = pilot._namespaces.get("default").planner.index
    index.truncate(messages.request_id, 0)
    assert reason(pilot, [A, B]).startswith("evicted")
    assert reason(pilot, [A, B]) == "every block is live"


def test_evicted_by_the_bound_of_the_index() -> None:
    pilot = cp.ContextPilot(max_blocks=2)
    pilot.optimize([A, B], "q")
    pilot.optimize([C, D], "q")
    assert reason(pilot, [A, B]).startswith("evicted")


def test_a_block_that_came_back_is_not_called_evicted() -> None:
    pilot = cp.ContextPilot()
    messages = pilot.optimize([A, B], "q")
    pilot._namespaces.get("default").planner.index.truncate(messages.request_id, 0)
    pilot.optimize([A, B], "q")
    pilot.optimize([C], "q")
    assert reason(pilot, [C, A], reorder=False).startswith("new combination")


def test_unknown() -> None:
    pilot = cp.ContextPilot()
    assert pilot.explain("cp-never") == Explanation("cp-never")
    assert pilot.explain("cp-never").reason == "unknown"


def test_explanations_are_ready_for_json_and_bounded() -> None:
    known = Explanations(max_requests=3)
    for number in range(5):
        known.add(Explanation(str(number), reason="cold"))
    assert [known.get(str(n)).reason for n in range(5)] == ["unknown"] * 2 + ["cold"] * 3
    assert known.get("4").as_dict()["reason"] == "cold"


@given(st.lists(st.lists(st.sampled_from([A, B, C, D, "x"]), max_size=5), max_size=8))
@settings(max_examples=60)
def test_statistics_are_the_sums_of_the_explanations(requests: list[list[str]]) -> None:
    pilot = cp.ContextPilot()
    prompts = [pilot.optimize(context, "q") for context in requests]
    explained = [pilot.explain(prompt) for prompt in prompts]
    stats = pilot.stats()["default"]
    assert stats["requests"] == len(requests)
    assert stats["tokens"] == sum(e.total_tokens for e in explained)
    assert stats["live_tokens"] == sum(e.matched_tokens for e in explained)
    assert stats["hinted_blocks"] == sum(len(prompt.hinted) for prompt in prompts)
    assert stats["num_requests"] == len(requests)
    for e in explained:
        assert e.matched_tokens <= min(e.total_tokens, e.reachable_tokens)
        assert (e.first_miss is None) == (e.matched_tokens == e.total_tokens)


def test_reset_forgets_one_namespace_or_all() -> None:
    pilot = cp.ContextPilot()
    for name in ("one", "two"):
        messages = pilot.optimize([A, B], "q", namespace=name, conversation_id="c")
    pilot.reset("one")
    assert pilot.explain(messages, namespace="two").reason.startswith("cold")
    assert "one" not in pilot.stats()
    assert pilot.stats()["two"]["requests"] == 1
    with pytest.raises(cp.UnknownConversationError):
        pilot.deduplicate([A], conversation_id="c", namespace="one")
    pilot.reset()
    assert pilot.explain(messages, namespace="two").reason == "unknown"
    assert pilot.optimize([B, A], "q", namespace="two").order == (0, 1)
    assert pilot.stats()["two"]["requests"] == 1

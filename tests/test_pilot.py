"""The one class that most people use: what holds for every prompt, on generated input."""

from __future__ import annotations

import copy
import gc
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import check_prompt

import contextpilot as cp
from contextpilot.default import default_pilot, drop_default_pilot

LONG = [f"Document {c}: " + c * 600 for c in "abcdef"]
WORDS = ["", "a", "b", "ü\ud800😀", "[1] a", "line\n\nline", *LONG]
contexts = st.lists(st.sampled_from(WORDS), max_size=8)
limits = st.fixed_dictionaries(
    {},
    optional={
        "reorder": st.booleans(),
        "pin_first": st.integers(0, 4),
        "max_shift": st.none() | st.integers(0, 3),
        "min_gain_tokens": st.sampled_from([0, 16, 1000]),
        "displacement_cost": st.sampled_from([0, 5, 1000]),
        "anchor": st.sampled_from(["none", "moved", "end"]),
        "anchor_blocks": st.integers(0, 3),
        "deduplicate": st.booleans(),
    },
)


def check_limits(order: tuple[int, ...], options: dict[str, Any]) -> None:
    n = len(order)
    pinned = n if not options.get("reorder", True) else min(n, options.get("pin_first", 0))
    assert list(order[:pinned]) == list(range(pinned))
    shift = options.get("max_shift")
    if shift is not None:
        assert all(abs(position - rank) <= shift for position, rank in enumerate(order))


@pytest.mark.slow
@given(st.lists(st.tuples(contexts, limits), max_size=8))
@settings(max_examples=150)
def test_prompts_hold_every_block_within_the_bounds(requests: list[Any]) -> None:
    pilot = cp.ContextPilot()
    for context, options in requests:
        given_context = list(context)
        messages = pilot.optimize(context, "Why?", **options)
        assert context == given_context
        check_prompt(messages, context, "Why?")
        check_limits(messages.order, options)
        assert options.get("deduplicate", True) or not messages.hinted


@given(st.lists(contexts, max_size=6), limits, contexts)
@settings(max_examples=100)
def test_batches_hold_every_block_of_every_request(
    batch: list[list[str]], options: dict[str, Any], before: list[str]
) -> None:
    pilot = cp.ContextPilot()
    pilot.optimize(before, "before")
    queries = [f"question {i}" for i in range(len(batch))]
    messages, order = pilot.optimize_batch(batch, queries, **options)
    assert sorted(order) == list(range(len(batch)))
    for prompt, position in zip(messages, order, strict=True):
        check_prompt(prompt, batch[position], queries[position])
        check_limits(prompt.order, options)


@given(st.lists(contexts, min_size=1, max_size=6), limits)
@settings(max_examples=100)
def test_reorder_returns_what_was_given(batch: list[list[str]], options: dict[str, Any]) -> None:
    options.pop("deduplicate", None)
    reordered, order = cp.ContextPilot().reorder(batch, **options)
    assert sorted(order) == list(range(len(batch)))
    for blocks, position in zip(reordered, order, strict=True):
        assert blocks == [batch[position][rank] for rank in blocks.order]
        check_limits(blocks.order, options)


def test_reorder_takes_one_context_as_a_batch_of_one() -> None:
    pilot = cp.ContextPilot()
    assert pilot.reorder([3, 1, 2]) == ([[3, 1, 2]], [0])
    assert pilot.reorder([2, 3, 1]) == ([[3, 1, 2]], [0])
    assert pilot.reorder([]) == ([], [])
    assert pilot.reorder([[]]) == ([[]], [0])


def test_reorder_gives_back_the_callers_own_objects() -> None:
    objects = [{"text": "a", "score": 0.5}, {"text": "b"}]
    reordered, _ = cp.ContextPilot().reorder(objects)
    assert all(any(block is value for value in objects) for block in reordered[0])
    numbers = [np.int64(1), np.int64(2)]
    assert all(type(value) is np.int64 for value in cp.ContextPilot().reorder(numbers)[0][0])


def test_a_shared_block_leads_the_second_prompt() -> None:
    pilot = cp.ContextPilot()
    pilot.optimize([LONG[0], LONG[1]], "first")
    messages = pilot.optimize([LONG[2], LONG[1], LONG[0]], "second")
    assert messages.order == (2, 1, 0)
    assert messages[-1]["content"].startswith(f"[1] {LONG[0]}\n\n[2] {LONG[1]}\n\n")


@pytest.mark.parametrize(("cost", "order"), [(50, (0, 1, 2)), (0, (2, 1, 0))])
def test_a_few_tokens_are_worth_a_move_where_moves_cost_nothing(
    cost: int, order: tuple[int, ...]
) -> None:
    pilot = cp.ContextPilot(displacement_cost=cost, min_gain_tokens=0)
    pilot.optimize(["Document A", "Document B"], "first")
    messages = pilot.optimize(["Document C", "Document B", "Document A"], "second")
    assert messages.order == order


def test_the_most_relevant_block_stands_next_to_the_question() -> None:
    pilot = cp.ContextPilot(anchor="end")
    pilot.optimize([LONG[0], LONG[1], LONG[2]], "first")
    messages = pilot.optimize([LONG[3], LONG[2], LONG[1]], "second")
    assert messages.order == (2, 1, 0)
    text = f"[3] {LONG[3]}\n\nBy number, from most to least important: 3,2,1.\n\nsecond"
    assert messages[-1]["content"].endswith(text)
    hinted = pilot.optimize(
        [LONG[4], LONG[5]], "third", history=[{"role": "user", "content": LONG[4]}]
    )
    assert hinted.hinted == (0,)
    assert hinted.order == (1, 0)


@given(contexts, st.text(max_size=5), st.text(max_size=5))
@settings(max_examples=50)
def test_same_blocks_in_the_same_order_give_the_same_bytes(
    context: list[str], one: str, two: str
) -> None:
    options: dict[str, Any] = {"reorder": False, "system_instruction": "Be brief."}
    first, second = (cp.ContextPilot().optimize(context, q, **options) for q in (one, two))
    assert first[:-1] == second[:-1]
    head = first[-1]["content"].removesuffix(one)
    assert second[-1]["content"] == head + two


def test_ten_thousand_blocks_in_one_context() -> None:
    pilot = cp.ContextPilot(anchor="none")
    context = [f"block number {i}" for i in range(10_000)]
    pilot.optimize(context, "q")
    messages = pilot.optimize(context[::-1], "q")
    assert messages.order == tuple(range(9_999, -1, -1))
    (one, two), _ = pilot.optimize_batch([context, context[1:]], ["q", "q"])
    assert one[0]["content"][:1000] != two[0]["content"][:1000]


def test_integers_and_equal_strings_never_match() -> None:
    pilot = cp.ContextPilot()
    pilot.optimize([1, 2, 3], "q")
    messages = pilot.optimize(["3", "2", "1"], "q", min_gain_tokens=0)
    assert messages.order == (0, 1, 2)
    assert pilot.explain(messages).matched_blocks == 0


def test_objects_share_blocks_with_plain_texts() -> None:
    pilot = cp.ContextPilot()
    pilot.optimize([LONG[0], LONG[1]], "q")
    messages = pilot.optimize([{"text": LONG[1]}, {"page_content": LONG[0]}], "q")
    assert messages.order == (1, 0)


# -- annotation ------------------------------------------------------------------------------------


def test_annotation_is_on_off_or_the_callers_own() -> None:
    for annotate, expected in (
        (True, "By number, from most to least important: 2,1."),
        (False, ""),
        ("Best: {ranking}", "Best: 2,1"),
    ):
        pilot = cp.ContextPilot(annotate=annotate)
        pilot.optimize([LONG[0], LONG[1]], "q")
        content = pilot.optimize([LONG[1], LONG[0]], "Why?")[-1]["content"]
        tail = content.split(LONG[1] + "\n\n")[1]
        assert tail.endswith("Why?")
        assert (expected in tail) if expected else tail == "Why?"


# -- conversations and history ---------------------------------------------------------------------


@given(st.lists(contexts, min_size=1, max_size=4), limits)
@settings(max_examples=100)
def test_hints_in_a_conversation_always_have_their_text_before_them(
    turns: list[list[str]], options: dict[str, Any]
) -> None:
    pilot = cp.ContextPilot()
    history: list[dict[str, Any]] = []
    for number, context in enumerate(turns):
        before = copy.deepcopy(history)
        messages = pilot.optimize(
            context,
            f"q{number}",
            history=history,
            conversation_id="c",
            system_instruction="Be brief.",
            **options,
        )
        assert history == before
        expected = history if history else [{"role": "system", "content": "Be brief."}]
        assert messages[:-1] == expected
        check_prompt(messages, context, f"q{number}", [m["content"] for m in messages[:-1]])
        check_limits(messages.order, options)
        history = [*messages, {"role": "assistant", "content": "An answer."}]


def test_a_block_of_the_history_becomes_a_hint_and_the_rest_stays() -> None:
    pilot = cp.ContextPilot()
    first = pilot.optimize([LONG[0], LONG[1]], "q", conversation_id="c")
    history = [*first, {"role": "assistant", "content": "ok"}]
    second = pilot.optimize([LONG[2], LONG[0]], "q", conversation_id="c", history=history)
    assert second.hinted == (1,)
    assert LONG[0] not in second[-1]["content"]
    assert LONG[2] in second[-1]["content"]
    assert 'beginning "[1] Document a: "' in second[-1]["content"]


def test_no_hint_without_the_history_in_this_very_prompt() -> None:
    pilot = cp.ContextPilot()
    pilot.optimize([LONG[0]], "q", conversation_id="c")
    assert pilot.optimize([LONG[0]], "q", conversation_id="c").hinted == ()
    edited = [{"role": "user", "content": LONG[0][:-1]}]
    assert pilot.optimize([LONG[0]], "q", conversation_id="c", history=edited).hinted == ()


def test_blocks_in_the_parts_of_a_message_count_as_given() -> None:
    history = [{"role": "user", "content": [{"type": "text", "text": "see:\n" + LONG[0]}]}]
    messages = cp.ContextPilot().optimize([LONG[0]], "q", history=history)
    assert messages.hinted == (0,)
    assert messages[0] == history[0]


def test_deduplicate_off_repeats_everything() -> None:
    history = [{"role": "user", "content": LONG[0]}]
    messages = cp.ContextPilot(deduplicate=False).optimize([LONG[0], LONG[0]], "q", history=history)
    assert messages.hinted == ()
    assert messages[-1]["content"].count(LONG[0]) == 2


def test_later_turns_behind_a_private_history_keep_their_order() -> None:
    pilot = cp.ContextPilot(deduplicate=False)
    for session in range(4):
        history: list[dict[str, Any]] = []
        for turn, context in enumerate([LONG[:3], LONG[2::-1], LONG[5:2:-1]]):
            query = f"Question {turn} of session {session}"
            messages = pilot.optimize(context, query, history=history, system_instruction="Brief.")
            if turn:
                assert messages.order == (0, 1, 2)
                plain = cp.ContextPilot(reorder=False).optimize(context, query)
                assert messages[-1] == plain[-1]  # no annotation either
            history = [*messages, {"role": "assistant", "content": f"Answer {session}"}]


def test_two_different_system_messages_are_refused() -> None:
    history = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    pilot = cp.ContextPilot()
    with pytest.raises(ValueError, match="system_instruction differs"):
        pilot.optimize(["a"], "q", history=history, system_instruction="Be long.")
    assert pilot.optimize(["a"], "q", history=history)[:2] == history


def test_a_system_instruction_stands_first_and_once() -> None:
    pilot = cp.ContextPilot()
    system = {"role": "system", "content": "Be brief."}
    first = pilot.optimize(["a"], "q", system_instruction="Be brief.")
    assert first[0] == system
    again = pilot.optimize(["a"], "q", history=first, system_instruction="Be brief.")
    assert [message["role"] for message in again] == ["system", "user", "user"]
    assert pilot.optimize(["a"], "q", system_instruction="")[0]["content"] == ""


def test_conversations_never_see_each_other() -> None:
    pilot = cp.ContextPilot()
    pilot.optimize([LONG[0]], "q", conversation_id="one")
    pilot.optimize([LONG[1]], "q", conversation_id="two")
    result = pilot.deduplicate([LONG[0], LONG[1]], conversation_id="two")
    assert result.overlapping_blocks == [LONG[1]]
    assert result.new_blocks == [LONG[0]]
    with pytest.raises(cp.UnknownConversationError):
        pilot.deduplicate([LONG[0]], conversation_id="two", namespace="other")


# -- namespaces ------------------------------------------------------------------------------------

scripts = st.lists(
    st.tuples(st.sampled_from(["one", "two"]), contexts, st.sampled_from(["c", "d"])), max_size=10
)


def play(pilot: cp.ContextPilot, script: list[Any]) -> dict[str, list[Any]]:
    """Run a script; return what each namespace saw."""
    seen: dict[str, list[Any]] = {"one": [], "two": []}
    for namespace, context, conversation in script:
        messages = pilot.optimize(
            context, "q", namespace=namespace, conversation_id=conversation, min_gain_tokens=0
        )
        explained = pilot.explain(messages, namespace=namespace).as_dict()
        explained.pop("request_id")
        dedup = pilot.deduplicate(context, conversation_id=conversation, namespace=namespace)
        seen[namespace].append((list(messages), messages.order, explained, dedup))
    return seen


@pytest.mark.slow
@given(scripts)
@settings(max_examples=80)
def test_namespaces_never_see_each_other(script: list[Any]) -> None:
    """What a namespace does is the same with and without neighbours."""
    pilot = cp.ContextPilot()
    together = play(pilot, script)
    for namespace in ("one", "two"):
        alone = cp.ContextPilot()
        own = [step for step in script if step[0] == namespace]
        assert play(alone, own)[namespace] == together[namespace]
        if own:
            assert alone.stats()[namespace] == pilot.stats()[namespace]


def test_the_least_recently_used_namespaces_are_let_go() -> None:
    pilot = cp.ContextPilot(max_namespaces=2)
    for name in ("one", "two", "one", "three"):
        pilot.optimize(["a"], "q", namespace=name)
    assert set(pilot.stats()) == {"one", "three"}


def test_questions_about_unknown_names_make_and_drop_no_namespace() -> None:
    pilot = cp.ContextPilot(max_namespaces=1)
    messages = pilot.optimize([LONG[0]], "q", conversation_id="c")
    before = pilot.stats()
    assert pilot.explain("cp-0", namespace="other").reason == "unknown"
    assert pilot.explain(messages, namespace="other").reason == "unknown"
    with pytest.raises(ValueError, match="conversation_id"):
        pilot.deduplicate(["a"], conversation_id="c", namespace="other")
    pilot.reset("other")
    assert pilot.stats() == before


@pytest.mark.slow
def test_a_namespace_that_was_reset_is_let_go_with_its_requests() -> None:
    pilot = cp.ContextPilot()
    request = pilot.optimize(["a"], "q").request_id
    gone = weakref.ref(pilot._namespaces.get("default"))
    assert pilot._owner(request) is not None
    pilot.reset("default")
    gc.collect()
    assert gone() is None
    assert pilot._owner(request) is None


# -- module-level functions ------------------------------------------------------------------------


def test_module_level_functions_share_one_instance() -> None:
    drop_default_pilot()
    try:
        assert cp.optimize([LONG[0], LONG[1]], "q").order == (0, 1)
        assert cp.optimize([LONG[1], LONG[0]], "q").order == (1, 0)
        messages, order = cp.optimize_batch([[LONG[0]], [LONG[1]]], ["p", "q"])
        assert {m[-1]["content"][-1] for m in messages} == {"p", "q"}
        assert sorted(order) == [0, 1]
        assert default_pilot().stats()["default"]["requests"] == 4
    finally:
        drop_default_pilot()


def test_gpu_falls_back_to_the_cpu_in_one_log_line(caplog: pytest.LogCaptureFixture) -> None:
    pilot = cp.ContextPilot(use_gpu=True)
    pilot.optimize_batch([["a"], ["b"]], ["q", "q"])
    pilot.optimize_batch([["a"], ["b"]], ["q", "q"])
    assert len([r for r in caplog.records if "CPU" in r.getMessage()]) == 1

"""Bad input gets an error that names the argument, and leaves everything as it was."""

from __future__ import annotations

from typing import Any

import pytest

import contextpilot as cp

LONG = "a long block of text " * 20


def deep(pilot: cp.ContextPilot) -> tuple[Any, ...]:
    """Everything that a call could have changed."""
    state = []
    for name, space in pilot._namespaces.items():
        planner = space.planner
        window = tuple(planner.window._contexts)
        state.append((name, planner.index.requests(), window, sorted(space.explanations._known)))
    return pilot.stats(), state


ONE = [
    ({"contexts": None}, TypeError, "contexts"),
    ({"contexts": "text"}, TypeError, "contexts"),
    ({"contexts": [["a"]]}, TypeError, r"contexts\[0\]"),
    ({"contexts": ["a", None]}, TypeError, r"contexts\[1\]"),
    ({"contexts": ["a", 1]}, TypeError, "contexts mixes"),
    ({"contexts": [{"title": "a"}]}, TypeError, r"contexts\[0\]"),
    ({"query": None}, TypeError, "query"),
    ({"query": 5}, TypeError, "query"),
    ({"query": b"q"}, TypeError, "query"),
    ({"conversation_id": 5}, TypeError, "conversation_id"),
    ({"system_instruction": 5}, TypeError, "system_instruction"),
    ({"system_instruction": {"role": "system"}}, TypeError, "system_instruction"),
    ({"history": "text"}, TypeError, "history"),
    ({"history": [{"content": "a"}]}, TypeError, r"history\[0\]"),
    ({"namespace": 5}, TypeError, "namespace"),
]
OPTIONS = [
    ({"pin_first": -1}, ValueError, "pin_first"),
    ({"pin_first": None}, TypeError, "pin_first"),
    ({"pin_first": True}, TypeError, "pin_first"),
    ({"max_shift": -1}, ValueError, "max_shift"),
    ({"max_shift": 1.5}, TypeError, "max_shift"),
    ({"max_shift": False}, TypeError, "max_shift"),
    ({"min_gain_tokens": -5}, ValueError, "min_gain_tokens"),
    ({"min_gain_tokens": "16"}, TypeError, "min_gain_tokens"),
    ({"reorder": 1}, TypeError, "reorder"),
    ({"reorder": None}, TypeError, "reorder"),
    ({"annotate": None}, TypeError, "annotate"),
    ({"annotate": 1}, TypeError, "annotate"),
    ({"annotate": "{order}"}, ValueError, "annotate"),
    ({"annotate": "{}"}, ValueError, "annotate"),
    ({"deduplicate": "yes"}, TypeError, "deduplicate"),
    ({"hint_template": None}, TypeError, "hint_template"),
    ({"hint_template": "{title}"}, ValueError, "hint_template"),
    ({"copy_template": "{first_line}"}, ValueError, "copy_template"),
    ({"copy_template": "{position!r}"}, ValueError, "copy_template"),
    ({"pin_frist": 1}, TypeError, "pin_frist"),
    ({"bounds": None}, TypeError, "bounds"),
]


@pytest.fixture
def pilot() -> cp.ContextPilot:
    pilot = cp.ContextPilot()
    pilot.optimize([LONG, "b"], "q", conversation_id="c")
    pilot.optimize_batch([["a", "b"], ["b"]], ["q", "r"])
    return pilot


def refuse(pilot: cp.ContextPilot, error: Any, named: str, call: Any) -> None:
    before = deep(pilot)
    with pytest.raises(error, match=named):
        call()
    assert deep(pilot) == before


@pytest.mark.parametrize(("arguments", "error", "named"), ONE + OPTIONS)
def test_optimize(pilot: cp.ContextPilot, arguments: Any, error: Any, named: str) -> None:
    call = {"contexts": ["a"], "query": "q", "conversation_id": "new"} | arguments
    refuse(pilot, error, named, lambda: pilot.optimize(**call))


BATCH = [
    ({"all_contexts": None}, TypeError, "all_contexts"),
    ({"all_contexts": "ab"}, TypeError, "all_contexts"),
    ({"all_contexts": ["a", "b"]}, TypeError, r"all_contexts\[0\]"),
    ({"all_contexts": [["a"], None]}, TypeError, r"all_contexts\[1\]"),
    ({"all_contexts": [["a"], ["b", 1]]}, TypeError, r"all_contexts\[1\]"),
    ({"all_contexts": [["a"], [["b"]]]}, TypeError, r"all_contexts\[1\]\[0\]"),
    ({"queries": None}, TypeError, "queries"),
    ({"queries": "ab"}, TypeError, "queries"),
    ({"queries": {"p": 1, "q": 2}}, TypeError, "queries"),
    ({"queries": ["q"]}, ValueError, "queries and all_contexts"),
    ({"queries": ["q"] * 3}, ValueError, "queries and all_contexts"),
    ({"queries": ["q", None]}, TypeError, r"queries\[1\]"),
    ({"system_instruction": 5}, TypeError, "system_instruction"),
    ({"namespace": 5}, TypeError, "namespace"),
]


@pytest.mark.parametrize(("arguments", "error", "named"), BATCH + OPTIONS)
def test_optimize_batch(pilot: cp.ContextPilot, arguments: Any, error: Any, named: str) -> None:
    call = {"all_contexts": [["a"], ["b"]], "queries": ["p", "q"]} | arguments
    refuse(pilot, error, named, lambda: pilot.optimize_batch(**call))


@pytest.mark.parametrize(
    ("contexts", "named"),
    [
        (None, "contexts"),
        ("text", "contexts"),
        (5, "contexts"),
        ([["a"], "b"], r"contexts\[1\]"),
        (["b", ["a"]], r"contexts\[0\]"),
        ([["a"], [["b"]]], r"contexts\[1\]\[0\]"),
        ([1, "a"], "contexts mixes"),
    ],
)
def test_reorder(pilot: cp.ContextPilot, contexts: Any, named: str) -> None:
    refuse(pilot, TypeError, named, lambda: pilot.reorder(contexts))


@pytest.mark.parametrize(("options", "error", "named"), OPTIONS)
def test_options_of_reorder_and_of_the_instance(
    pilot: cp.ContextPilot, options: Any, error: Any, named: str
) -> None:
    refuse(pilot, error, named, lambda: pilot.reorder([["a"], ["b"]], **options))
    with pytest.raises(error, match=named):
        cp.ContextPilot(**options)


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"contexts": None}, TypeError, "contexts"),
        ({"contexts": [["a"]]}, TypeError, r"contexts\[0\]"),
        ({"conversation_id": None}, TypeError, "conversation_id"),
        ({"conversation_id": "never"}, cp.UnknownConversationError, "conversation_id 'never'"),
        ({"conversation_id": "never"}, ValueError, r"optimize\(\)"),
        ({"namespace": "other"}, cp.UnknownConversationError, "conversation_id"),
        ({"namespace": 5}, TypeError, "namespace"),
        ({"hint_template": "{}"}, ValueError, "hint_template"),
        ({"hint_template": None}, TypeError, "hint_template"),
    ],
)
def test_deduplicate(pilot: cp.ContextPilot, arguments: Any, error: Any, named: str) -> None:
    call = {"contexts": ["a"], "conversation_id": "c"} | arguments
    refuse(pilot, error, named, lambda: pilot.deduplicate(**call))


def test_questions_about_what_is_known(pilot: cp.ContextPilot) -> None:
    refuse(pilot, TypeError, "request", lambda: pilot.explain(None))
    refuse(pilot, TypeError, "request", lambda: pilot.explain(5))
    refuse(pilot, TypeError, "namespace", lambda: pilot.explain("r", namespace=5))
    refuse(pilot, TypeError, "namespace", lambda: pilot.reset(5))


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"namespace": None}, TypeError, "namespace"),
        ({"tokenizer": "gpt2"}, TypeError, "tokenizer"),
        *(
            ({name: value}, error, name)
            for name in ("max_blocks", "window_size", "max_namespaces")
            for value, error in (
                (0, ValueError),
                (-1, ValueError),
                (True, TypeError),
                ("1", TypeError),
            )
        ),
    ],
)
def test_making_an_instance(arguments: Any, error: Any, named: str) -> None:
    with pytest.raises(error, match=named):
        cp.ContextPilot(**arguments)


def test_a_tokenizer_that_fails_leaves_everything_as_it_was() -> None:
    def count(text: str) -> int:
        if text == "bad":
            raise RuntimeError("no such token")
        return len(text)

    pilot = cp.ContextPilot(tokenizer=count)
    pilot.optimize(["good"], "q")
    refuse(pilot, RuntimeError, "token", lambda: pilot.optimize(["good", "bad"], "q"))
    assert pilot.optimize(["good"], "q").order == (0,)

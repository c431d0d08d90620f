"""Ids found again by content: never those of another plan, bounded, from any thread."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from contextpilot_hooks.blocks import Registered, Step
from contextpilot_hooks.chain import ChainLedger
from contextpilot_hooks.ids import find_request_id
from contextpilot_hooks.prompts import Prompts
from hypothesis import given
from hypothesis import strategies as st

ID, OTHER = "cp-" + "0" * 24, "cp-" + "1" * 24


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


@pytest.fixture
def prompts() -> Prompts:
    made = Prompts()
    made.register("planned", ID, "here")
    return made


@pytest.mark.parametrize(
    "prompt",
    [
        [user("planned")],
        (user("planned"),),
        [{"role": "system", "content": "s"}, user("planned")],
        [user("before"), {"role": "assistant", "content": "a"}, user("planned")],
        [user("planned"), {"role": "assistant", "content": "prefill"}],
        [user([{"type": "text", "text": "planned"}])],
        [user([{"type": "image_url"}, {"type": "input_text", "text": "planned"}])],
        "planned",
    ],
)
def test_a_rebuilt_prompt_is_found(prompts: Prompts, prompt: Any) -> None:
    assert prompts.find(prompt) == ID


@pytest.mark.parametrize(
    "prompt",
    [
        [],
        [user("planned"), {"role": "assistant", "content": "a"}, user("later turn")],
        [user("planned"), user("planned")],
        [{"role": "system", "content": "planned"}],
        [user("planned ")],
        [user(None)],
        [user(["planned"])],
        ["planned"],
        [None, 3],
        "other",
        None,
        {"role": "user", "content": "planned"},
        iter([user("planned")]),
        [user("\ud800")],
    ],
)
def test_another_prompt_is_not(prompts: Prompts, prompt: Any) -> None:
    assert prompts.find(prompt) is None


def test_an_iterator_is_not_used_up(prompts: Prompts) -> None:
    one_way = iter([user("planned")])
    prompts.find(one_way)
    assert list(one_way) == [user("planned")]


def test_messages_that_are_objects_are_read() -> None:
    class Message:
        role = "user"
        content = "planned"

    prompts = Prompts()
    prompts.register("planned", ID)
    assert prompts.find([Message()]) == ID


def test_the_latest_plan_of_one_place_wins_and_two_places_have_none(prompts: Prompts) -> None:
    prompts.register("planned", OTHER, "here")
    assert prompts.find("planned") == OTHER
    prompts.register("planned", ID, "there")
    assert prompts.find("planned") is None
    prompts.register("elsewhere", OTHER, "here")  # its text changes
    assert prompts.find("planned") == ID
    assert prompts.find("elsewhere") == OTHER


def test_the_bound_holds_and_drops_the_oldest() -> None:
    prompts = Prompts(max_prompts=3)
    for number in range(5):
        prompts.register(f"text {number}", f"id {number}")
    assert len(prompts) == len(prompts._texts) == 3
    assert [prompts.find(f"text {number}") for number in range(5)] == [
        *(None, None, "id 2", "id 3", "id 4"),
    ]
    prompts.sending("id 2")  # in use: stays
    prompts.register("text 5", "id 5")
    assert prompts.find("text 2") == "id 2"
    assert prompts.find("text 3") is None
    for number in range(10):
        prompts.sending(f"id {number}")
    assert len(prompts._sent) == 3


def test_an_id_is_sent_once_and_then_with_a_number(prompts: Prompts) -> None:
    assert [prompts.sending(ID) for _ in range(3)] == [ID, f"{ID}-2", f"{ID}-3"]
    assert prompts.sending(OTHER) == OTHER


def test_whoever_planned_a_prompt_hears_of_it(prompts: Prompts) -> None:
    seen: list[Any] = []

    class Planner:
        def sent(self, request_id: str, before: list[str]) -> None:
            seen.append((request_id, before))

        def counted(self, request_id: str, prompt_tokens: int) -> None:
            seen.append((request_id, prompt_tokens))

    prompts.register("more", OTHER, "here", Planner())
    for name in (OTHER, ID, "unknown"):
        prompts.counted(name, 7)
        prompts.sent(name, [{"role": "system", "content": "s"}, user("more"), {"content": "p"}])
        prompts.sent(name, "more")
    assert seen == [(OTHER, 7), (OTHER, ["s"])]
    prompts.clear()
    prompts.counted(OTHER, 7)
    assert len(seen) == 2
    assert prompts.find("more") is None


def test_many_threads_send_many_different_ids(prompts: Prompts) -> None:
    sent: list[str] = []
    threads = [
        threading.Thread(target=lambda: sent.extend(prompts.sending(ID) for _ in range(200)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(sent)) == 800


steps = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.sampled_from("xy")), max_size=30
)


@given(steps, st.integers(1, 4))
def test_what_is_found_was_registered_for_that_text_alone(
    taken: list[tuple[str, int, str]], bound: int
) -> None:
    prompts, known = Prompts(bound), dict[int, tuple[str, str]]()
    for text, number, place in taken:
        prompts.register(text, f"id {number}", place)
        known[number] = (text, place)
        for asked in "abc":
            found = prompts.find(asked)
            if found is not None:
                assert known[int(found[3:])][0] == asked
        assert len(prompts) <= bound
        assert {name for places in prompts._texts.values() for name in places.values()} <= set(
            prompts._plans
        )


@pytest.mark.parametrize("form", ["{}", "chatcmpl-{}-a7f079c1", "0_cmpl-{}-0-bece2282"])
def test_engines_know_all_sends_of_a_prompt_as_one_request(prompts: Prompts, form: str) -> None:
    names = [find_request_id(form.format(prompts.sending(ID))) for _ in range(12)]
    assert set(names) == {ID}


def test_a_ledger_tells_of_a_prompt_once_however_often_it_is_sent() -> None:
    cached = {"a", "b"}
    ledger = ChainLedger(16, lambda key: key in cached)
    for _ in range(3):
        ledger.hand_over(Step([Registered(ID, ["a", "b"], 40)], []))
    assert [(event.kind, event.request, event.tokens) for event in ledger.take()] == [
        ("cached", ID, 32)
    ]
    ledger.hand_over(Step([Registered(ID, ["a", "b"], 40)], []))
    assert ledger.take() == []

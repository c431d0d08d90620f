"""`rewrite`: whole conversations, through the real clients, in every shape."""

from __future__ import annotations

import copy
import json
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from scripted_engine import Engine, scripted_engine

from contextpilot import ContextPilot

openai = pytest.importorskip("openai", reason="pip install openai")
ChatCompletionMessage = openai.types.chat.ChatCompletionMessage
anthropic = pytest.importorskip("anthropic", reason="pip install anthropic")

WORST: dict[str, Any] = {"displacement_cost": 0, "min_gain_tokens": 0}
FACTS = [f"{name} lies by a lake. " + f"In {name} it rains in May. " * 12 for name in "ABCDEFG"]
FILE = "\n".join(f"value_{at} = compute({at * 7919})" for at in range(20))
TOOLS = [{"type": "function", "function": {"name": "read_file", "parameters": {}}}]
DOCUMENTS = "Use these documents:\n"


def documents(*ranks: int) -> str:
    return "".join(f"<document>{FACTS[rank]}</document>\n" for rank in ranks)


def ask(question: str, *ranks: int) -> dict[str, Any]:
    return {"role": "user", "content": DOCUMENTS + documents(*ranks) + "\n" + question}


def call(number: int) -> dict[str, Any]:
    function = {"name": "read_file", "arguments": json.dumps({"path": f"{number}.py"})}
    return {"id": f"c{number}", "type": "function", "function": function}


@pytest.fixture
def engine() -> Iterator[Engine]:
    with scripted_engine() as told:
        yield told


@pytest.fixture
def pilot() -> Iterator[ContextPilot]:
    with ContextPilot(index_url="", **WORST) as made:
        yield made


def test_an_agent_with_the_openai_client(engine: Engine) -> None:
    """The client's own full history each turn, its answers among it as the objects they are."""
    with (
        ContextPilot(listen="127.0.0.1:0", **WORST) as pilot,
        openai.OpenAI(base_url=engine.url, api_key="none", max_retries=0) as client,
    ):
        pilot.rewrite([ask("where?", 0, 1, 2)])
        history: list[Any] = [{"role": "system", "content": "Be brief."}]
        pilot.rewrite([*history, ask("where?", 0, 1, 2)])
        ids, before = [], []
        for number in range(4):
            history.append(ask(f"how {number}?", 3, 2, 1, 0))
            for is_second in (False, True):
                given = copy.deepcopy(history)
                done = pilot.rewrite(history, tools=TOOLS)
                assert history == given
                reply = client.chat.completions.create(
                    model="m", messages=done.messages, tools=TOOLS
                )
                sent = engine.seen[-1][1]["messages"]
                assert sent[: len(before)] == before
                before = sent
                ids.append(done.request_id)
                if not is_second:
                    said = reply.choices[0].message.to_dict() | {"tool_calls": [call(number)]}
                    history.append(ChatCompletionMessage.model_validate(said))
                    result = {"role": "tool", "tool_call_id": f"c{number}", "content": FILE}
                    history.append(result)
            history.append(client.chat.completions.create(**_plain()).choices[0].message)
            engine.seen.pop()
        assert engine.ids() == ids
        assert len({*ids}) == 8
        assert all(ids)
        read = [one["content"] for one in before if one["role"] == "tool"]
        assert read[0] == FILE
        assert all("tool result #1" in text for text in read[1:])


def _plain() -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "x"}]}


def test_anthropic_shapes_through_the_real_client(engine: Engine, pilot: ContextPilot) -> None:
    url = engine.url.removesuffix("/v1")
    system = [{"type": "text", "text": DOCUMENTS + documents(0, 1, 2)}]
    turned = [{"type": "text", "text": DOCUMENTS + documents(2, 0, 1)}]
    history: list[Any] = [{"role": "user", "content": "where?"}]
    with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client:
        pilot.rewrite(history, system=system)
        done = pilot.rewrite(history, system=turned)
        assert done.order == (1, 2, 0)
        reply = client.messages.create(
            model="m",
            max_tokens=9,
            messages=done.messages,
            system=done.system,
            extra_headers={"X-Request-Id": done.request_id},
        )
        use = {"type": "tool_use", "id": "t1", "name": "read_file", "input": {}}
        result = {"type": "tool_result", "tool_use_id": "t1", "content": FILE}
        history += [
            {"role": "assistant", "content": [*reply.content, use]},
            {"role": "user", "content": [result, {"type": "text", "text": "and then?"}]},
        ]
        later = pilot.rewrite(history, system=turned)
        client.messages.create(
            model="m", max_tokens=9, messages=later.messages, system=later.system
        )
    (header, first), (_, second) = engine.seen
    assert header == done.request_id
    assert first["system"][0]["text"].startswith(DOCUMENTS + documents(0, 1, 2))
    assert second["system"] == first["system"]
    assert second["messages"][0] == first["messages"][0]
    assert later.messages[1] is history[1]
    assert turned == [{"type": "text", "text": DOCUMENTS + documents(2, 0, 1)}]


def test_items_of_responses_and_its_instructions(engine: Engine, pilot: ContextPilot) -> None:
    items: list[Any] = [ask("where?", 0, 1, 2)]
    pilot.rewrite(items, system="Be brief.")
    items = [
        ask("how?", 2, 1, 0),
        {"type": "function_call", "call_id": "c1", "name": "read_file", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": FILE},
    ]
    done = pilot.rewrite(items, system="Be brief.")
    with openai.OpenAI(base_url=engine.url, api_key="none", max_retries=0) as client:
        client.responses.create(model="m", input=done.messages, instructions=done.system)
    sent = engine.seen[-1][1]
    assert sent["instructions"] == "Be brief."
    assert pilot.rewrite(items, system="").system == ""
    parts = ({"type": "text", "text": "Be brief."},)
    assert pilot.rewrite(items, system=parts).system is parts
    assert sent["input"][0]["content"].startswith(DOCUMENTS + documents(0, 1, 2))
    assert sent["input"][1:] == items[1:]


def test_what_was_done_is_told(pilot: ContextPilot) -> None:
    pilot.rewrite([ask("where?", 0, 1, 2)])
    notes = {
        "role": "user",
        "content": "<item>one</item>\n<item>two</item>\n<item>3</item>\n<item>4</item>",
    }
    done = pilot.rewrite([ask("how?", 2, 1, 0), notes])
    assert done.is_rewritten
    assert (done.order, done.num_moved) == ((2, 1, 0), 2)
    assert done.live_tokens == done.total_tokens > 0
    (found,) = done.found
    assert (found.form, found.blocks, found.why) == ("xml", 3, "document-tags")
    assert [(one.why, bool(one.words)) for one in done.left] == [("no-evidence", True)]
    assert pilot.explain(done.request_id).request_id == done.request_id
    assert pilot.explain(done.messages).matched_tokens == done.live_tokens
    assert pilot.stats()["default"]["requests"] == 2
    history: list[dict[str, Any]] = [{"role": "user", "content": "?"}]
    for number in range(2):
        history.append({"role": "assistant", "content": None, "tool_calls": [call(number)]})
        history.append({"role": "tool", "tool_call_id": f"c{number}", "content": FILE})
    saved = pilot.rewrite(history)
    assert saved.saved_chars > 400
    assert saved.saved_tokens == saved.saved_chars // 4
    assert saved.found == ()


def test_where_nothing_is_to_be_done_nothing_is(pilot: ContextPilot) -> None:
    history = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
    for given, mode in ((history, "auto"), ([], "auto"), ([ask("where?", 0, 1, 2)], "off")):
        done = pilot.rewrite(given, mode=mode)
        assert list(done.messages) == given
        assert all(one is other for one, other in zip(done.messages, given, strict=True))
        assert (done.request_id, done.messages.request_id, done.is_rewritten) == ("", "", False)
        assert done.reason == ("off" if mode == "off" else "no blocks")
    assert pilot.stats()["default"]["requests"] == 0


def test_what_was_rewritten_is_rewritten_to_itself(pilot: ContextPilot) -> None:
    pilot.rewrite([ask("where?", 0, 1, 2, 3)])
    done = pilot.rewrite([ask("how?", 3, 2, 1, 0)])
    assert done.num_moved == 4
    once_more = pilot.rewrite(done.messages)
    assert once_more.messages == done.messages
    grown = [*done.messages, {"role": "assistant", "content": "x"}, ask("and?", 5, 0, 4)]
    assert pilot.rewrite(grown).messages[0] == done.messages[0]


def test_the_id_is_that_of_the_whole_prompt(pilot: ContextPilot) -> None:
    done = pilot.rewrite([ask("where?", 0, 1, 2)])
    messages = done.messages
    assert messages.request_id == done.request_id != ""
    assert (messages + [{"role": "assistant", "content": "x"}]).request_id == ""  # noqa: RUF005
    for same in (messages[:], copy.copy(messages), pickle.loads(pickle.dumps(messages))):
        assert same.request_id == done.request_id
    messages.append({"role": "assistant", "content": "x"})
    assert messages.request_id == ""


def test_namespaces_know_nothing_of_each_other_and_reset_forgets(pilot: ContextPilot) -> None:
    turned = [ask("how?", 2, 1, 0)]
    pilot.rewrite([ask("where?", 0, 1, 2)])
    assert pilot.rewrite(turned, namespace="other").num_moved == 0
    moved = pilot.rewrite(turned)
    assert moved.num_moved == 2
    pilot.reset("other")
    answered = [*turned, {"role": "assistant", "content": "x"}, {"role": "user", "content": "?"}]
    assert pilot.rewrite(answered).messages[0] == moved.messages[0]
    pilot.reset("default")
    assert pilot.rewrite(answered).messages[0] == turned[0]


def test_a_conversation_is_known_to_deduplicate(pilot: ContextPilot) -> None:
    pilot.rewrite([ask("where?", 0, 1, 2)], conversation_id="one")
    found = pilot.deduplicate([FACTS[1], FACTS[5]], conversation_id="one")
    assert (found.overlapping_blocks, found.new_blocks) == ([FACTS[1]], [FACTS[5]])


def answer_of(**fields: str) -> dict[str, Any]:
    """The `response_format` of Chat Completions for an answer of these fields."""
    properties = {name: {"type": kind} for name, kind in fields.items()}
    return {"type": "json_schema", "json_schema": {"schema": {"properties": properties}}}


class Model:
    """As Pydantic's classes tell their schema."""

    @staticmethod
    def model_json_schema() -> dict[str, Any]:
        return {"properties": {"best_index": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("form", "moves"),
    [
        (None, True),
        (answer_of(place="string"), True),
        (answer_of(best_index="integer"), False),
        (answer_of(best_index="integer")["json_schema"]["schema"], False),
        (Model, False),
    ],
)
def test_documents_stay_where_the_answers_form_counts_them(
    pilot: ContextPilot, form: Any, moves: bool
) -> None:
    pilot.rewrite([ask("where?", 0, 1, 2)])
    done = pilot.rewrite([ask("where?", 2, 1, 0)], response_format=form)
    assert (done.messages != [ask("where?", 2, 1, 0)]) == moves
    assert bool(done.found) == moves


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"messages": "hello"}, "messages"),
        ({"messages": {"role": "user"}}, "messages"),
        ({"messages": [{"content": "x"}]}, r"messages\[0\]"),
        ({"messages": [{"role": "user", "content": "x"}, "y"]}, r"messages\[1\]"),
        ({"system": 7}, "system"),
        ({"tools": "search"}, "tools"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": int}, "response_format"),
        ({"conversation_id": 7}, "conversation_id"),
        ({"namespace": 7}, "namespace"),
        ({"mode": "best"}, "mode"),
        ({"scope": "assistant"}, "scope"),
        ({"anotate": False}, "anotate"),
    ],
)
def test_wrong_arguments_are_named(pilot: ContextPilot, wrong: Any, name: str) -> None:
    with pytest.raises((TypeError, ValueError), match=name):
        pilot.rewrite(**{"messages": [{"role": "user", "content": "x"}], **wrong})


def test_threads_write_their_conversations_as_one_alone_would(pilot: ContextPilot) -> None:
    problems: list[str] = []

    def talk(number: int) -> None:
        history: list[Any] = [{"role": "system", "content": f"You are {number}."}]
        before: list[Any] = []
        for turn in range(12):
            history.append(
                ask("Why" + " so" * turn + "?", turn % 7, (turn + 3) % 7, (turn + number) % 7 or 5)
            )
            done = pilot.rewrite(history)
            if list(done.messages[: len(before)]) != before:
                problems.append(f"{number}, turn {turn}")
            before = list(done.messages)
            history.append({"role": "assistant", "content": f"answer {turn}"})

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert pilot.stats()["default"]["requests"] == 48

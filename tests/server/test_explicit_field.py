"""Where blocks handed over are put, and what is told when nothing behind their head can hit."""

from __future__ import annotations

from typing import Any

import pytest
from servers import Client, Scripted

from contextpilot.plan.online import NO_HEAD, Head
from contextpilot.server.proxy.unstable_heads import TELLING, Heads, reason

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
BLOCKS = [f"Document {name}: " + f"facts about {name}. " * 12 for name in "abc"]
WRITTEN = "".join(f"[{i}] {text}\n\n" for i, text in enumerate(BLOCKS, start=1))
ASKED = {"role": "user", "content": "why?"}
SYSTEM = {"role": "system", "content": "Be brief."}
PREFILL = {"role": "assistant", "content": "{"}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
RESULT = {"role": "tool", "tool_call_id": "1", "content": '{"rows": ["a text", "another text"]}'}


def sent(
    proxy: Client, upstream: Scripted, messages: list[Any], path: str = CHAT, **more: Any
) -> Any:
    """Hand the blocks over beside these messages; return what the engine got."""
    members = {name: more.pop(name) for name in ("query",) if name in more}
    name = "input" if path == RESPONSES else "messages"
    field = {"contexts": BLOCKS, **members}
    reply = proxy.post(path, {name: messages, "contextpilot": field, **more})
    assert reply.status == 200, reply.body
    return upstream.last.json()[name]


def with_blocks(message: dict[str, Any]) -> dict[str, Any]:
    return {**message, "content": WRITTEN + message["content"]}


@pytest.mark.parametrize("query", [None, "why?", "  why?\n"])
@pytest.mark.parametrize(
    "after",
    [
        [],
        [PREFILL],
        [CALL, RESULT],
        [CALL, {"role": "function", "name": "f", "content": "a text"}],
        [CALL, RESULT, PREFILL],
    ],
)
def test_blocks_stand_before_the_question_in_the_last_user_message(
    proxy: Client, upstream: Scripted, query: str | None, after: list[Any]
) -> None:
    given = {} if query is None else {"query": query}
    messages = sent(proxy, upstream, [SYSTEM, ASKED, *after], **given)
    assert messages == [SYSTEM, with_blocks(ASKED), *after]


def test_another_question_gets_a_message_of_its_own(proxy: Client, upstream: Scripted) -> None:
    new = {"role": "user", "content": WRITTEN + "and how?"}
    for history in ([SYSTEM], [SYSTEM, ASKED], [SYSTEM, ASKED, {**PREFILL, "content": "so."}]):
        assert sent(proxy, upstream, history, query="and how?") == [*history, new]
    prefilled = sent(
        proxy, upstream, [SYSTEM, PREFILL], query="and how?", continue_final_message=True
    )
    assert prefilled == [SYSTEM, new, PREFILL]
    tools = sent(proxy, upstream, [ASKED, CALL, RESULT], query="and how?")
    assert tools == [ASKED, CALL, RESULT, new]


def test_anthropics_prefill_and_tool_results_are_left_alone(
    proxy: Client, upstream: Scripted
) -> None:
    use = {"type": "tool_use", "id": "1", "name": "f", "input": {"text": "a text"}}
    called = {"role": "assistant", "content": [use]}
    parts = [{"type": "text", "text": "a text"}]
    result = {"type": "tool_result", "tool_use_id": "1", "content": parts}
    answered = {"role": "user", "content": [result]}
    messages = sent(proxy, upstream, [ASKED, called, answered, PREFILL], MESSAGES)
    assert messages == [with_blocks(ASKED), called, answered, PREFILL]
    both = {"role": "user", "content": [result, {"type": "text", "text": "why?"}]}
    messages = sent(proxy, upstream, [ASKED, called, both], MESSAGES)
    text = {"type": "text", "text": WRITTEN + "why?"}
    assert messages == [ASKED, called, {"role": "user", "content": [result, text]}]


def test_the_items_of_a_response_that_are_no_user_messages_are_left_alone(
    proxy: Client, upstream: Scripted
) -> None:
    asked = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "why?"}]}
    call = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "1", "output": "a text"}
    items = sent(proxy, upstream, [asked, call, output], RESPONSES)
    text = {"type": "input_text", "text": WRITTEN + "why?"}
    assert items == [{**asked, "content": [text]}, call, output]


@pytest.mark.parametrize("messages", [[], [SYSTEM], [SYSTEM, PREFILL], [CALL, RESULT]])
def test_without_any_question_the_request_is_refused(
    proxy: Client, upstream: Scripted, messages: list[Any]
) -> None:
    reply = proxy.post(CHAT, {"messages": messages, "contextpilot": {"contexts": BLOCKS}})
    assert reply.status == 400
    assert reply.json()["error"]["param"] == "contextpilot.query"
    assert not upstream.seen


def test_a_picture_before_the_question_stands_before_the_blocks_too(
    proxy: Client, upstream: Scripted
) -> None:
    """Behind another picture nothing of the blocks is cached."""

    def live(picture: str) -> Any:
        parts = [
            {"type": "image_url", "image_url": {"url": picture}},
            {"type": "text", "text": "why?"},
        ]
        field = {"contexts": BLOCKS}
        body = {"messages": [{"role": "user", "content": parts}], "contextpilot": field}
        return proxy.post(CHAT, body).result["live_blocks"]

    assert [live("data:1"), live("data:1"), live("data:2")] == [0, 3, 0]


def test_hits_with_the_question_beside_the_messages_and_in_them(
    proxy: Client, upstream: Scripted
) -> None:
    """Different questions on the same blocks: these stand in front of each of them."""
    for number in range(4):
        asked = {"role": "user", "content": f"Question {number}?"}
        field = {"contexts": BLOCKS[::-1] if number % 2 else BLOCKS, "query": asked["content"]}
        reply = proxy.post(CHAT, {"messages": [SYSTEM, asked], "contextpilot": field})
        assert reply.result["live_blocks"] == (len(BLOCKS) if number else 0)
        assert upstream.last.json()["messages"][1]["content"].startswith(WRITTEN)
        assert "reason" not in reply.result


# -- heads that change -----------------------------------------------------------------------------


def reasons(proxy: Client, number: int, **members: Any) -> list[str | None]:
    """Send requests that differ before their blocks; return the reasons that are told."""
    told = []
    for at in range(number):
        messages = members.get("messages", lambda n: [SYSTEM, {"role": "user", "content": str(n)}])
        field = {"contexts": BLOCKS, "query": "why?"}
        body = {"messages": messages(at), "contextpilot": field}
        told.append(proxy.post(CHAT, body).result.get("reason"))
    return told


def test_a_question_that_stands_before_the_blocks_is_told(proxy: Client) -> None:
    told = reasons(proxy, TELLING + 2)
    assert told[:TELLING] == [None] * TELLING  # of the first, no block had been seen
    assert all(one and "omit contextpilot.query" in one for one in told[TELLING:])


def test_a_system_prompt_that_changes_is_told(proxy: Client) -> None:
    def messages(number: int) -> list[Any]:
        return [{"role": "system", "content": f"You are number {number}."}]

    told = reasons(proxy, TELLING + 1, messages=messages)
    assert told[-1]
    assert "move what changes behind the blocks" in told[-1]
    assert reasons(proxy, 1, messages=lambda _: [SYSTEM])[0]  # new, too
    assert reasons(proxy, 1, messages=lambda _: [SYSTEM]) == [None]


def test_later_turns_have_histories_of_their_own_and_are_not_told(proxy: Client) -> None:
    def messages(number: int) -> list[Any]:
        return [SYSTEM, ASKED, {"role": "assistant", "content": f"Answer {number}."}, ASKED]

    assert reasons(proxy, TELLING + 5, messages=messages) == [None] * (TELLING + 5)


def test_a_found_list_behind_a_head_that_changes_is_told(proxy: Client, upstream: Scripted) -> None:
    text = "".join(f"<document>{block}</document>\n" for block in BLOCKS)
    told = []
    for number in range(TELLING + 1):
        content = f"Request {number} of today.\n\n{text}\nwhy?"
        body = {"messages": [{"role": "user", "content": content}]}
        told.append(proxy.post(CHAT, body).result.get("reason"))
    assert told[:TELLING] == [None] * TELLING
    assert told[TELLING]


def test_heads_are_bounded_and_kept_apart_by_namespace() -> None:
    heads = Heads(max_namespaces=2)
    for number in range(200):
        name = Head((("head", number),), 1)
        assert heads.note("a", name, True) == number + 1
        assert heads.note("b", NO_HEAD, True) == 0
    assert heads.note("a", Head((("head", 199),), 1), True) == 0
    assert heads.note("a", Head((("head", 0),), 1), True) == 1  # forgotten beyond the bound
    assert heads.note("a", Head((("head", 500),), 1), False) == 1  # blocks that are new, too
    heads.note("c", NO_HEAD, True)
    heads.note("d", NO_HEAD, True)
    assert heads.note("a", Head((("head", 1),), 1), True) == 1
    assert reason(TELLING - 1, True) is None

"""Breakpoints in requests without a plan: only where a prefix was sent before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from servers import Client, Scripted, Seen, send_json

from contextpilot.engines.anthropic import ENGINE as ANTHROPIC
from contextpilot.prompt.apis.anthropic import AnthropicMessages
from contextpilot.server.proxy.recurring import RecurringPrefixes

MESSAGES = "/v1/messages"
MARK = {"type": "ephemeral"}


def body(*texts: str, system: str = "Be brief.", **members: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    turns = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    return {"model": "m", "max_tokens": 9, "system": system, "messages": turns, **members}


def marked(node: Any) -> int:
    if isinstance(node, dict):
        return ("cache_control" in node) + sum(map(marked, node.values()))
    return sum(map(marked, node)) if isinstance(node, list) else 0


def without_marks(node: Any) -> Any:
    """Texts as they were; a text and a single text part are the same to the API."""
    if isinstance(node, dict):
        return {k: without_marks(v) for k, v in node.items() if k != "cache_control"}
    if isinstance(node, list):
        if len(node) == 1 and isinstance(node[0], dict) and node[0].get("type") == "text":
            return node[0]["text"]
        return [without_marks(one) for one in node]
    return node


def test_conversation_is_marked_from_its_second_turn(
    upstream: Scripted, start: Callable[..., Client]
) -> None:
    client = start(engine=(upstream.url,), kind="anthropic")
    sent = []
    for texts in (("a",), ("a", "b", "c"), ("a", "b", "c", "d", "e")):
        client.post(MESSAGES, body(*texts))
        sent.append(upstream.last.json())
    assert sent[0] == body("a"), "whether it comes again, nobody knows"
    assert sent[1]["system"][0]["cache_control"] == MARK
    assert [marked(one) for one in sent[1]["messages"]] == [1, 0, 1]
    assert [marked(one) for one in sent[2]["messages"]] == [0, 0, 1, 0, 1]
    assert without_marks(sent[2]) == body("a", "b", "c", "d", "e")


def test_questions_behind_one_system_prompt_mark_that_alone(
    upstream: Scripted, start: Callable[..., Client]
) -> None:
    client = start(engine=(upstream.url,), kind="anthropic")
    for text in ("a", "b", "c"):
        client.post(MESSAGES, body(text))
    last = upstream.last.json()
    assert (marked(last["system"]), marked(last["messages"])) == (1, 0)


def test_nothing_is_marked_for_others(upstream: Scripted, start: Callable[..., Client]) -> None:
    client = start(engine=(upstream.url,), kind="anthropic")
    for key in ("one", "two"):
        client.post(MESSAGES, body("a"), X_Api_Key=key)
    assert upstream.last.json() == body("a"), "another tenant's prefix is not ours"
    own = [{"type": "text", "text": "Be brief.", "cache_control": MARK}]
    for _ in range(2):
        client.post(MESSAGES, body("a", system=own))  # type: ignore[arg-type]
    assert upstream.last.json() == body("a", system=own)  # type: ignore[arg-type]
    client.post(MESSAGES, body("a"), X_ContextPilot_Enabled="false")
    assert upstream.last.json() == body("a")


def test_tools_are_marked_where_there_is_no_system_prompt() -> None:
    given = {"tools": [{"name": "read"}, {"name": "write"}], "messages": body("a")["messages"]}
    changed = ANTHROPIC.with_recurring_marks(given, True, 0)
    assert [marked(tool) for tool in changed["tools"]] == [0, 1]


def test_prefixes_are_forgotten_after_an_hour_and_beyond_a_bound() -> None:
    now = [0.0]
    seen = RecurringPrefixes(max_places=50, clock=lambda: now[0])

    def sent_before(*texts: str, system: str = "Be brief.") -> tuple[bool, int]:
        found = seen.find("", AnthropicMessages(), body(*texts, system=system))
        seen.note(found)
        return found.opening, found.turns

    assert sent_before("a") == (False, 0)
    assert sent_before("a", "b") == (True, 1)
    now[0] = 3601.0
    assert sent_before("a", "b") == (False, 0)
    for number in range(200):
        sent_before(f"question {number}", system=f"system {number}")
    assert len(seen) <= 50
    assert sent_before("a", "b") == (False, 0)


def test_what_no_upstream_read_was_not_sent(
    upstream: Scripted, start: Callable[..., Client]
) -> None:
    async def refuse(seen: Seen, send: Any) -> None:
        await send_json(send, {"type": "error", "error": {"message": "no"}}, 401)

    read, upstream.answer = upstream.answer, refuse
    client = start(engine=(upstream.url,), kind="anthropic")
    client.post(MESSAGES, body("a"))
    upstream.answer = read
    client.post(MESSAGES, body("a"))
    assert upstream.last.json() == body("a")


@given(
    prompts=st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=6), max_size=8),
    opening=st.booleans(),
    turns=st.integers(0, 6),
)
def test_at_most_four_marks_and_no_other_change(
    prompts: list[list[str]], opening: bool, turns: int
) -> None:
    for texts in prompts:
        given = body(*texts)
        changed = ANTHROPIC.with_recurring_marks(given, opening, min(turns, len(texts)))
        assert marked(changed) <= 4
        assert without_marks(changed) == given
        assert marked(given) == 0, "the caller's objects stay as they are"

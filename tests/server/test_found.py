"""Blocks found in messages, through the proxy: what moves, what stays, what next turns repeat."""

from __future__ import annotations

import json
from typing import Any

from servers import Client, Scripted, wait_until

CHAT = "/v1/chat/completions"
TEXTS = [f"Facts about {name}: " + f"{name} is old and {name} is far away. " * 5 for name in "abcd"]


def documents(texts: list[str]) -> str:
    return "".join(f'<document id="{text[12]}">\n{text}\n</document>\n' for text in texts)


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def sent(upstream: Scripted) -> Any:
    return upstream.last.json()["messages"]


def test_documents_in_a_message_are_reordered_to_hit(proxy: Client, upstream: Scripted) -> None:
    proxy.post(CHAT, {"messages": [user(documents(TEXTS) + "\nwhy?")]})
    first = sent(upstream)[0]["content"]
    reply = proxy.post(CHAT, {"messages": [user(documents(TEXTS[::-1]) + "\nhow?")]})
    second = sent(upstream)[0]["content"]
    assert reply.result["live_blocks"] == len(TEXTS)
    assert first[: len(documents(TEXTS))] == second[: len(documents(TEXTS))]
    assert second.rstrip().endswith("how?")
    assert "from most to least important: 4,3,2,1" in second


def test_the_most_relevant_document_stands_last_where_it_is_anchored(
    upstream: Scripted, start: Any
) -> None:
    anchored = start(engine=(upstream.url,), anchor="end")
    for texts in (TEXTS, TEXTS[::-1]):
        reply = anchored.post(CHAT, {"messages": [user(documents(texts) + "\nwhy?")]})
        written = sent(upstream)[0]["content"]
        places = [written.index(f'<document id="{text[12]}">\n{text}') for text in texts]
        assert max(places) == places[0]
        assert reply.status == 200
    anchored.post(CHAT, {"messages": [user("\n".join(TEXTS) + "\nwhy?")]})
    assert sent(upstream)[0]["content"] == "\n".join(TEXTS) + "\nwhy?"


def test_a_prompt_that_comes_back_with_the_answer_stays(proxy: Client, upstream: Scripted) -> None:
    for body in ({}, {"prompt_logprobs": 1}, {"echo": True}, {"truncate_prompt_tokens": 300}):
        proxy.post(CHAT, {"messages": [user(documents(TEXTS) + "\nwhy?")]})
        asked = [user(documents(TEXTS[::-1]) + "\nwhy?")]
        reply = proxy.post(CHAT, {"messages": asked, **body})
        assert (sent(upstream) == asked) is bool(body)
        assert [found["why"] for found in reply.result.get("left", ())] == ["given-back"] * len(
            body
        )


def test_without_a_note_numbers_move_with_their_blocks(upstream: Scripted, start: Any) -> None:
    quiet = start(engine=(upstream.url,), annotate=False)

    def numbered(texts: list[str]) -> str:
        lines = "".join(f"[{i}] {text}\n\n" for i, text in enumerate(texts, start=1))
        return f"Documents:\n\n{lines}Question: why?"

    for texts in (TEXTS[:3], TEXTS[2::-1], TEXTS[:3]):
        quiet.post(CHAT, {"messages": [user(numbered(texts))]})
        written = sent(upstream)[0]["content"]
        for number, text in enumerate(texts, start=1):
            assert f"[{number}] {text}" in written


def test_the_next_turn_writes_earlier_messages_as_before(proxy: Client, upstream: Scripted) -> None:
    proxy.post(CHAT, {"messages": [user(documents(TEXTS) + "\nwhy?")]})
    turn = [user(documents(TEXTS[::-1]) + "\nhow?")]
    proxy.post(CHAT, {"messages": turn})
    before = sent(upstream)[0]
    turn += [{"role": "assistant", "content": "so"}, user("and then?")]
    reply = proxy.post(CHAT, {"messages": turn})
    assert sent(upstream) == [before, *turn[1:]]
    assert reply.result["live_blocks"] == len(TEXTS)
    turn += [{"role": "assistant", "content": "thus"}]
    turn += [user(documents([f"Other {t}" for t in TEXTS]) + "\nwhat?")]
    reply = proxy.post(CHAT, {"messages": turn})
    assert sent(upstream)[:4] == [before, *turn[1:4]]
    assert reply.result["blocks"] == len(TEXTS)


def test_blocks_of_the_history_become_hints(proxy: Client, upstream: Scripted) -> None:
    turn = [user(documents(TEXTS) + "\nwhy?"), {"role": "assistant", "content": "so"}]
    turn.append(user(documents([TEXTS[1], "Facts about z: " + "news " * 40]) + "\nhow?"))
    reply = proxy.post(CHAT, {"messages": turn})
    assert reply.result["hinted"] == 1
    assert TEXTS[1] not in sent(upstream)[2]["content"]
    assert "Given earlier in this conversation" in sent(upstream)[2]["content"]
    written = sent(upstream)[2]
    turn += [{"role": "assistant", "content": "well"}, user("go on")]
    proxy.post(CHAT, {"messages": turn})
    assert sent(upstream)[2] == written


def test_system_prompts_beside_the_messages_are_searched(proxy: Client, upstream: Scripted) -> None:
    for texts in (TEXTS, TEXTS[::-1]):
        body = {"system": "Use these.\n" + documents(texts), "messages": [user("why?")]}
        proxy.post("/v1/messages", body)
    first, second = (seen.json()["system"] for seen in upstream.seen)
    assert second.startswith(first[: len("Use these.\n" + documents(TEXTS))])
    assert sent(upstream) == [user("why?")]


def test_responses_and_completions_are_planned(proxy: Client, upstream: Scripted) -> None:
    for path, field in (("/v1/responses", "input"), ("/v1/completions", "prompt")):
        proxy.post(path, {field: documents(TEXTS) + "\nwhy?"})
        first = upstream.last.json()[field]
        proxy.post(path, {field: documents(TEXTS[::-1]) + "\nhow?"})
        assert upstream.last.json()[field].startswith(first[: len(documents(TEXTS))])


def test_repeated_tool_results_become_references(proxy: Client, upstream: Scripted) -> None:
    listing = "\n".join(f"line {i} of a long file that was read" for i in range(40))

    def result(number: int) -> list[dict[str, Any]]:
        call = {"id": f"c{number}", "type": "function", "function": {"name": "f", "arguments": ""}}
        return [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{number}", "content": listing},
        ]

    body = json.dumps({"messages": [user("read"), *result(1), *result(2)]}).encode()
    reply = proxy.request("POST", CHAT, body, Content_Type="application/json")
    messages = sent(upstream)
    assert messages[2]["content"] == listing
    assert messages[4]["content"].startswith("[Identical: the same 40 lines as tool result #1")
    assert reply.result["saved_chars"] > 1000
    assert messages[3] == result(2)[0]


def test_mode_and_scope_narrow_the_search(proxy: Client, upstream: Scripted) -> None:
    body = {"messages": [user(documents(TEXTS) + "\nwhy?")]}
    for headers in ({"X_ContextPilot_Mode": "off"}, {"X_ContextPilot_Scope": "tool"}):
        reply = proxy.post(CHAT, body, **headers)
        assert reply.result == {"status": "unplanned", "reason": "no blocks"}
        assert upstream.last.json() == body


def test_volatile_heads_are_reported_and_kept(proxy: Client, upstream: Scripted) -> None:
    system = {"role": "system", "content": "Now is 2026-01-02T10:11:12. Be brief."}
    reply = proxy.post(CHAT, {"messages": [system, user("hi")]})
    assert reply.result["volatile"] == ["timestamp", "time"]
    assert sent(upstream)[0] == system
    text = proxy.get("/metrics").body.decode()
    assert 'contextpilot_volatile_heads_total{kind="timestamp"} 1' in text


def test_the_header_tells_what_was_found_and_why_the_rest_stays(proxy: Client) -> None:
    reply = proxy.post(CHAT, {"messages": [user(documents(TEXTS) + "\nwhy?")]})
    assert reply.result["found"] == [{"form": "xml", "blocks": 4, "why": "document-tags"}]
    reply = proxy.post(CHAT, {"messages": [user(documents(TEXTS) + "\nIs the last one right?")]})
    assert reply.result["status"] == "unplanned"
    (left,) = reply.result["left"]
    assert (left["form"], left["blocks"], left["why"]) == ("xml", 4, "position-asked")
    assert left["words"] == "the prompt refers to them by position"


def test_explain_tells_the_same_of_the_lists(proxy: Client) -> None:
    for question in ("why?", "Is the last one right?"):
        told = proxy.post(CHAT, {"messages": [user(documents(TEXTS) + f"\n{question}")]}).result
        path = f"/explain/{told['request_id']}"
        wait_until(lambda path=path: proxy.get(path).json()["status"] == 200)  # noted once answered
        known = proxy.get(path).json()
        assert known["found"] == told.get("found", [])
        assert known["left"] == told.get("left", [])
    assert known["reason"] == "unplanned: no blocks"
    assert known["left"][0]["words"] == "the prompt refers to them by position"


def test_a_request_without_lists_is_not_remembered(proxy: Client) -> None:
    assert "request_id" not in proxy.post(CHAT, {"messages": [user("hello")]}).result
    assert proxy.get("/requests").json()["requests"] == []

"""Images in requests: those that the prompt marks as found move, all others pass byte for byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from linked_images import linked
from servers import Client, Scripted

PATHS = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
}
CUE = "Pictures that the search returned:"


def body(names: str, api: str, cue: str = CUE) -> dict[str, Any]:
    kind = "input_text" if api == "responses" else "text"
    parts: list[Any] = [{"type": kind, "text": cue}]
    for name in names.split():
        parts += [{"type": kind, "text": f"{name}.png:"}, linked(name, api, "high")]
    parts.append({"type": kind, "text": "Which house is red?"})
    turn = [{"role": "user", "content": parts}]
    return {"model": "qwen2-vl", "input" if api == "responses" else "messages": turn}


@pytest.mark.parametrize("api", PATHS)
def test_found_images_move_with_their_labels(api: str, proxy: Client, upstream: Scripted) -> None:
    proxy.post(PATHS[api], body("oak elm ash", api))
    reply = proxy.post(PATHS[api], body("yew ash elm oak", api))
    sent = upstream.last.json()
    sent = {name: sent[name] for name in body("oak", api)}
    assert sent == body("oak elm ash yew", api)
    assert reply.result["found"][-1]["form"] == "images"
    assert reply.result["live_blocks"] == 3


@pytest.mark.parametrize("api", PATHS)
def test_other_images_pass_byte_for_byte(api: str, proxy: Client, upstream: Scripted) -> None:
    for names in ("oak elm ash", "ash elm oak"):
        given = json.dumps(body(names, api, cue="Look:"), indent=1).encode()
        reply = proxy.request("POST", PATHS[api], given, Content_Type="application/json")
        assert upstream.last.body == given
        assert reply.result["status"] == "unplanned"
        assert reply.result["left"][0]["why"] == "no-evidence"

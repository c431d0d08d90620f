"""What the server remembers of prompts: hashes and sizes, no text."""

from __future__ import annotations

import asyncio
import gc
import threading
from types import FrameType, FunctionType, ModuleType
from typing import Any

import pytest
from servers import Client, Scripted, send_json, serving

from contextpilot.server.run import make_server
from contextpilot.server.settings import Settings

CANARY = "zebrafinch"
DOCUMENTS = [f"Document {n} of the {CANARY}. " * 8 for n in range(6)]
_NOT_HELD = (ModuleType, FrameType, type, asyncio.AbstractEventLoop, threading.Thread)
"""What leads to the test itself."""
_CHAT = "/v1/chat/completions"


def texts_held(*roots: Any) -> list[str]:
    """Return the texts with the canary in them that can be reached from these objects."""
    seen, found, queue, alive = set[int](), list[str](), list(roots), list[Any]()
    while queue:
        one = queue.pop()
        if id(one) in seen or isinstance(one, _NOT_HELD):
            continue
        seen.add(id(one))
        alive.append(one)  # else its number could be another's
        if isinstance(one, (str, bytes)):
            text = one if isinstance(one, str) else one.decode("latin-1")
            found += [text[:80]] if CANARY in text else []
            continue
        if isinstance(one, FunctionType):  # not its module
            queue += [one.__closure__, one.__defaults__, one.__kwdefaults__, vars(one)]
        else:
            queue += gc.get_referents(one)
    return found


def test_the_walk_finds_what_is_held() -> None:
    holder = {"a": [(b"x", {f"in {CANARY}"})]}
    assert texts_held(holder) == [f"in {CANARY}"]


@pytest.mark.parametrize("kind", ["vllm", "llamacpp", "other"])
def test_no_text_of_a_prompt_is_held(upstream: Scripted, kind: str) -> None:
    async def answer(_: Any, send: Any) -> None:
        usage = {"prompt_tokens": 50, "prompt_tokens_details": {"cached_tokens": 0}}
        await send_json(send, {"choices": [{"text": CANARY}], "usage": usage})

    upstream.answer = answer
    server = make_server(Settings(port=0, kind=kind, engine=(upstream.url,)))
    with serving(server) as url:
        client = Client(url)
        listed = "".join(f"<document>\n{text}\n</document>\n" for text in DOCUMENTS)
        given = {"contexts": DOCUMENTS[::-1], "query": f"Where is the {CANARY}?"}
        system = {"role": "system", "content": f"You know the {CANARY}."}
        asked = {"role": "user", "content": listed + "Which of them?"}
        for _ in range(2):
            assert client.post(_CHAT, {"messages": [system, asked]}).status == 200
            assert client.post(_CHAT, {"contextpilot": given}).status == 200
            assert client.post(_CHAT, {"messages": [system]}).status == 200
            assert client.post("/reorder", {"contexts": DOCUMENTS[2:]}).status == 200
            optimized = client.post("/optimize", {**given, "conversation_id": "c"})
            assert optimized.status == 200
            body = {"contexts": DOCUMENTS[:3], "conversation_id": "c"}
            assert client.post("/deduplicate", body).status == 200
        state: Any = server.config.app.state  # type: ignore[union-attr]
        assert texts_held(state.service, state.proxy, state.metrics) == []

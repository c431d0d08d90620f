"""A server of ours before an engine that does as a row says, both on real sockets."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "server"))

from servers import Client, Scripted, send_json, serving

from contextpilot.server.run import make_server
from contextpilot.server.settings import Settings

CHAT = "/v1/chat/completions"
BLOCKS = [f"Document {name}: " + f"facts about {name}. " * 12 for name in "abcdef"]
Answer = Callable[[Any, Any], Awaitable[None]]


def answering(status: int, content: Any = None) -> Answer:
    """Return an answer of an engine."""

    async def answer(_: Any, send: Any) -> None:
        await send_json(send, content or {}, status)

    return answer


@contextlib.contextmanager
def served(**settings: Any) -> Iterator[tuple[Client, Scripted]]:
    """Run both; yields a client of ours, and the engine."""
    engine = Scripted()
    with serving(engine) as engine.url:
        options = {"port": 0, "kind": "other", "engine": (engine.url,), **settings}
        with serving(make_server(Settings(**options))) as url:
            yield Client(url), engine


def asking(blocks: list[str], *messages: dict[str, Any], **field: Any) -> dict[str, Any]:
    """Return a body with blocks handed over; without messages, one that asks."""
    turns = list(messages) or [{"role": "user", "content": "Why?"}]
    return {"messages": turns, "contextpilot": {"contexts": blocks, **field}}

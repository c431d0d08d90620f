"""A real llama-server under our launcher, behind our proxy, and what to ask of it."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "server"))

from launch import MODEL_NAME, Server, free_port, launch
from servers import Client, serving, wait_until

from contextpilot.server.pool.engine_pool import EnginePool
from contextpilot.server.run import make_server
from contextpilot.server.settings import Settings
from contextpilot.sync.sources.llama_slots import SlotTranslator


@dataclass
class Seen:
    """A request as it went to llama-server.

    Attributes:
        body: what it was sent.
        slot: the slot that was asked for; None when it may choose.
        held: what the index believed of this slot then: requests and leading tokens.
    """

    body: dict[str, Any]
    slot: int | None
    held: list[tuple[str, int]]


@dataclass
class Reply:
    """What a client got."""

    content: dict[str, Any]
    request_id: str

    @property
    def cached(self) -> int:
        """Prompt tokens from the cache, as llama-server timed it."""
        return int(self.content["timings"]["cache_n"])

    @property
    def prompt(self) -> int:
        """Prompt tokens."""
        return self.cached + int(self.content["timings"]["prompt_n"])

    @property
    def text(self) -> str:
        """What was generated."""
        return str(self.content["choices"][0]["message"]["content"])


@dataclass
class Rig:
    """llama-server, our proxy before it, and a view on what both do."""

    engine: Server
    proxy: Client
    pool: EnginePool
    seen: dict[str, Seen] = field(default_factory=dict)

    @property
    def slots(self) -> SlotTranslator:
        """What the index believes of the slots."""
        [name] = self.pool.engines[0].reporters
        found = self.pool.receiver.slots_of(name)
        assert found is not None
        return found

    @property
    def state(self) -> dict[str, Any]:
        """What the index tells of the reporter."""
        [state] = self.pool.receiver.engines().values()
        return state

    def settle(self, seconds: float = 20.0) -> None:
        """Wait until each answer's run was found, or is known not to be."""
        wait_until(lambda: not self.slots.num_pending, seconds)

    def ask(self, contexts: Sequence[str], question: str, **more: Any) -> Reply:
        """Send one chat request through the proxy, blocks handed over."""
        given = {"contextpilot": {"contexts": list(contexts)}} if contexts else {}
        body = {
            "model": MODEL_NAME,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": 4,
            "temperature": 0,
            **given,
            **more,
        }
        answer = self.proxy.post("/v1/chat/completions", body)
        assert answer.status == 200, answer.body
        return Reply(answer.json(), answer.result.get("request_id", ""))

    def tokens(self, request_id: str) -> list[int]:
        """Return the prompt tokens of a request as llama-server reads them."""
        messages = {"messages": self.seen[request_id].body["messages"]}
        prompt: Any = self.engine.post("/apply-template", messages)
        return self.tokenize(prompt["prompt"])

    def tokenize(self, text: str) -> list[int]:
        """Return a prompt's tokens."""
        body = {"content": text, "add_special": True, "parse_special": True}
        told: Any = self.engine.post("/tokenize", body)
        return list(told["tokens"])

    def act(self, slot: int, action: str, **body: Any) -> Any:
        """Save, restore or erase a slot."""
        return self.engine.post(f"/slots/{slot}?action={action}", body)


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """Return the length of the common head."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))


@contextlib.contextmanager
def rig(flags: Sequence[str] = (), **env: str) -> Iterator[Rig]:
    """Run llama-server under the launcher with our proxy before it; later flags win."""
    ports = free_port(), free_port()
    server = make_server(Settings(engine=(f"http://127.0.0.1:{ports[0]}",), port=ports[1]))
    state = server.config.app.state  # type: ignore[union-attr]
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(serving(server))
        index = {"CONTEXTPILOT_INDEX_URL": ours, **env}
        running = stack.enter_context(
            launch("llamacpp", port=ports[0], env=index, extra_flags=flags, timeout=60)
        )
        made = Rig(running, Client(ours), state.service.pool)
        watch(made, state.proxy)
        wait_until(lambda: made.pool.engines[0].slots is not None and bool(state_of(made)))
        yield made


def state_of(made: Rig) -> Any:
    """Return what reporters there are."""
    return made.pool.receiver.engines()


def watch(made: Rig, proxy: Any) -> None:
    """Note each request as it leaves the proxy."""
    send = proxy._upstream.open

    def noted(method: str, url: str, headers: Any, body: bytes, **more: Any) -> Any:
        with contextlib.suppress(ValueError, AttributeError):  # a body that is no JSON object
            name = dict(headers).get(b"x-request-id", b"").decode()[-27:]
            content = json.loads(body)
            slot = content.get("id_slot")
            held = made.slots.requests(slot) if slot is not None else []
            made.seen[name] = Seen(content, slot, held)
        return send(method, url, headers, body, **more)

    proxy._upstream.open = noted

"""A scripted engine with a real prefix cache, which tells of it as the hooks in vLLM do."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

import uvicorn
from contextpilot_hooks.blocks import Registered, Step
from contextpilot_hooks.chain import ChainLedger
from contextpilot_hooks.ids import find_request_id
from contextpilot_hooks.reporter import Reporter
from contextpilot_hooks.settings import Engine, Settings

from contextpilot.server.request_body import Bodies

BLOCK_TOKENS = 16
CHARS_PER_TOKEN = 4
MAX_BLOCKS = 12_000
"""Blocks of the cache: a few hundred prompts of those that run between two restarts."""
_MAX_PROMPTS = 20_000
_BLOCK_CHARS = BLOCK_TOKENS * CHARS_PER_TOKEN
_JSON = [(b"content-type", b"application/json")]


class PrefixCache:
    """Chained blocks; each prompt moves its own to the end, the last first, so leaves go first."""

    def __init__(self, max_blocks: int) -> None:
        self._max_blocks = max_blocks
        self.blocks: OrderedDict[Hashable, None] = OrderedDict()

    def held(self, keys: list[Hashable]) -> int:
        """Return how many leading blocks of a prompt are here."""
        count = 0
        for key in keys:
            if key not in self.blocks:
                break
            count += 1
        return count

    def run(self, keys: list[Hashable]) -> list[Hashable]:
        """Hold a prompt; return the keys that came or went."""
        changed = [key for key in keys if key not in self.blocks]
        for key in reversed(keys):
            self.blocks[key] = None
            self.blocks.move_to_end(key)
        while len(self.blocks) > self._max_blocks:
            changed.append(self.blocks.popitem(last=False)[0])
        return changed


class ScriptedEngine:
    """An ASGI application."""

    def __init__(self, restart_every: int, max_blocks: int = MAX_BLOCKS) -> None:
        self._max_blocks = max_blocks
        self._restart_every = restart_every
        self._index_url = ""
        self._name = "vllm-scripted"
        self._num_served = 0
        self._reporter: Reporter | None = None
        self._prompts: OrderedDict[str, list[Hashable]] = OrderedDict()  # of former lives, too
        self._begin()

    def _begin(self) -> None:
        self._cache = PrefixCache(self._max_blocks)
        if not self._index_url:
            return
        cache = self._cache
        self._ledger = ChainLedger(BLOCK_TOKENS, lambda key: key in cache.blocks)
        settings = Settings.from_environ({"CONTEXTPILOT_INDEX_URL": self._index_url})
        engine = Engine(self._name, "vllm", "0.33.0", BLOCK_TOKENS)
        self._reporter = Reporter(self._ledger, settings, engine)
        self._reporter.wake()

    def _die(self) -> None:
        """End as a killed process does: without farewell, and nothing more is sent."""
        assert self._reporter is not None
        self._reporter.close(timeout=0, wait=False)
        while any(one.name == "contextpilot-reporter" for one in threading.enumerate()):
            time.sleep(0.001)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        async with Bodies(1 << 26, 1 << 30).read(receive) as body:
            await self._answer(scope, body, send)

    async def _answer(self, scope: Any, body: bytes, send: Any) -> None:
        path = scope["path"]
        if path == "/v1/chat/completions":
            content: Any = self._complete(scope, body)
        elif path == "/soak/truth":
            asked = json.loads(body)
            content = {name: self._tokens(name) for name in asked if name in self._prompts}
        elif path == "/soak/begin":
            told = json.loads(body)
            self._index_url = told["index_url"]
            self._name = told.get("name", self._name)
            content = self._begin()
        else:
            content = {}
        await send({"type": "http.response.start", "status": 200, "headers": _JSON})
        await send({"type": "http.response.body", "body": json.dumps(content).encode()})

    def _complete(self, scope: Any, body: bytes) -> dict[str, Any]:
        """Run a prompt; nothing else happens meanwhile."""
        if self._num_served and self._num_served % self._restart_every == 0:
            self._die()
            self._begin()
        self._num_served += 1
        text = "".join(f"<{one['role']}>{one['content']}" for one in json.loads(body)["messages"])
        keys, key = list[Hashable](), 0
        for at in range(0, len(text) - _BLOCK_CHARS + 1, _BLOCK_CHARS):
            key = hash((key, text[at : at + _BLOCK_CHARS]))
            keys.append(key)
        total = -(-len(text) // CHARS_PER_TOKEN)
        hits = self._cache.held(keys) * BLOCK_TOKENS
        changed = self._cache.run(keys)
        name = find_request_id(dict(scope["headers"]).get(b"x-request-id", b"").decode())
        registered = []
        if name is not None:
            self._prompts[name] = keys
            if len(self._prompts) > _MAX_PROMPTS:
                self._prompts.popitem(last=False)
            registered = [Registered(name, list(keys), total)]
        self._ledger.hand_over(Step(registered, changed))
        usage = {"prompt_tokens": total, "completion_tokens": 1}
        usage["prompt_tokens_details"] = {"cached_tokens": hits}  # type: ignore[assignment]
        message = {"role": "assistant", "content": "x"}
        return {"choices": [{"index": 0, "message": message}], "usage": usage}

    def _tokens(self, name: str) -> int:
        return self._cache.held(self._prompts[name]) * BLOCK_TOKENS


def run_engine(port: int, restart_every: int) -> None:
    """Serve the scripted engine."""
    app = ScriptedEngine(restart_every)
    uvicorn.run(app, port=port, log_level="error", lifespan="off", access_log=False)

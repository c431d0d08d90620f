"""Follows the requests of one engine by its KV events: their tokens are asked for beside them.

A request is asked about once its answer is through, so that it never waits. The engine's own
`/tokenize` knows its template; where a tokenizer is named, that is used instead, on a thread.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

from contextpilot.engines.asked_layers import EngineLayers
from contextpilot.engines.base import EngineKind
from contextpilot.engines.tokenize import PATH
from contextpilot.http.pooled import Upstream, UpstreamError
from contextpilot.server.request_body import check_parts
from contextpilot.sync.sources.kv_events.feed import KvFeed, Prompt
from contextpilot.sync.sources.kv_events.local_tokenizer import LocalTokenizer

logger = logging.getLogger(__name__)

TIMEOUT_S = 10.0
MAX_WAITING = 1024
MAX_WAITING_BYTES = 64 << 20
_MAX_ANSWER_BYTES = 32 << 20
_AT_ONCE = 2
_ASK_LAYERS_EVERY_S = 0.5
_OWN_HEADERS = ((b"content-type", b"application/json"), (b"accept-encoding", b"identity"))


class SentRequest(NamedTuple):
    """A request as it went to the engine.

    Attributes:
        api: name of the API's shape.
        headers: that the engine may ask for at `/tokenize`, too: a key.
    """

    request: str
    api: str
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


class KvFollower:
    """One engine's KV events and its requests. For use on one event loop, from `start` to `close`.

    Args:
        url: the engine's base URL.
        kind: returns what kind of engine it is.
        layers: whether its events tell what can be reused; the feed asks it, too.
        tokenizer: used in the engine's place; None to ask the engine.
    """

    def __init__(
        self,
        url: str,
        feed: KvFeed,
        kind: Callable[[], EngineKind],
        upstream: Upstream,
        layers: EngineLayers,
        tokenizer: LocalTokenizer | None = None,
    ) -> None:
        self._url = url
        self._feed = feed
        self._kind = kind
        self._upstream = upstream
        self._layers = layers
        self._tokenizer = tokenizer
        self._waiting: deque[tuple[SentRequest, int | None]] = deque()
        self._bytes = 0
        self._has_work = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._num_dropped = 0
        self._refused: set[int] = set()

    def start(self) -> None:
        """Begin to listen and to ask."""
        self._feed.start()
        work = [self._ask_layers(), *(self._work() for _ in range(_AT_ONCE))]
        self._tasks = [asyncio.create_task(each) for each in work]

    async def close(self) -> None:
        """Stop both."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._feed.close)

    def follow(self, sent: SentRequest, prompt_tokens: int | None) -> None:
        """Follow a request that the engine has read; what is too much is not believed.

        Args:
            prompt_tokens: as the answer said.
        """
        if self._feed.refused and self._layers.is_settled:
            return
        self._waiting.append((sent, prompt_tokens))
        self._bytes += len(sent.body)
        while len(self._waiting) > MAX_WAITING or self._bytes > MAX_WAITING_BYTES:
            self._num_dropped += 1
            self._feed.follow(Prompt(self._next()[0].request, None))
        self._has_work.set()

    def state(self) -> dict[str, Any]:
        """Return what is known, ready for JSON."""
        waiting = {"num_waiting": len(self._waiting), "num_dropped": self._num_dropped}
        return {**self._feed.state(), **waiting}

    def _next(self) -> tuple[SentRequest, int | None]:
        sent, prompt_tokens = self._waiting.popleft()
        self._bytes -= len(sent.body)
        return sent, prompt_tokens

    async def _ask_layers(self) -> None:
        while True:
            await self._layers.ask_if_due()
            await asyncio.sleep(_ASK_LAYERS_EVERY_S)

    async def _work(self) -> None:
        while True:
            await self._has_work.wait()
            if not self._waiting:
                self._has_work.clear()
                continue
            sent, prompt_tokens = self._next()
            await self._layers.ask_with(sent.headers)
            try:
                check_parts(sent.body)
                body = json.loads(sent.body)
                tokens = await self._tokens(sent, body)
                model, salt = (_text(body, name) for name in ("model", "cache_salt"))
                self._feed.follow(Prompt(sent.request, tokens, prompt_tokens, model, salt))
            except Exception as error:  # it goes unfollowed, as if the engine told nothing of it
                logger.debug("the tokens of a prompt are unknown: %s", type(error).__name__)
                self._feed.follow(Prompt(sent.request, None))

    async def _tokens(self, sent: SentRequest, body: Mapping[str, Any]) -> list[int] | None:
        """Return the tokens of a prompt; None when they are not known."""
        if body.get("extra_key"):  # SGLang's events do not tell it
            return None
        given = body.get("prompt")
        if sent.api == "completions" and isinstance(given, list):
            return given if all(type(token) is int for token in given) else None
        asked = self._kind().tokenize_body(sent.api, body)
        if asked is None:
            return None
        if self._tokenizer is not None:
            return await asyncio.to_thread(self._tokenizer.tokens, asked)
        return await asyncio.wait_for(self._ask(asked, sent), TIMEOUT_S)

    async def _ask(self, asked: dict[str, Any], sent: SentRequest) -> list[int] | None:
        body, content = json.dumps(asked).encode(), bytearray()
        headers = (*_OWN_HEADERS, *sent.headers)
        try:
            async with self._upstream.open("POST", self._url + PATH, headers, body) as answer:
                async for chunk in answer.chunks():
                    content += chunk
                    if len(content) > _MAX_ANSWER_BYTES:
                        return None
        except UpstreamError:
            return None
        if answer.status != 200:
            self._note_refusal(answer.status)
            return None
        found = import_module("msgspec.json").decode(bytes(content), type=dict[str, Any])
        tokens = found.get("tokens")
        return tokens if isinstance(tokens, list) else None

    def _note_refusal(self, status: int) -> None:
        if status not in self._refused:
            self._refused.add(status)
            logger.warning(
                "%s%s answers %d: requests are not followed by KV events; name a tokenizer "
                "(--kv-events ...,tokenizer=MODEL)",
                *(self._url, PATH, status),
            )


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    return value if isinstance(value, str) else ""

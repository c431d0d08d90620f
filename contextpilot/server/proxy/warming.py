"""Fills the cache of an engine that came back empty with what recent requests shared.

The kept requests are read anew, planned as a batch and cut after the prefixes that are worth their
tokens. Each is sent in a moment in which nothing runs or waits at that engine, for one token; its
answer goes nowhere.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

from contextpilot.block import Block, BlockKey
from contextpilot.engines.usage import UsageReader
from contextpilot.explain import Explanation
from contextpilot.http.keys import checked_key
from contextpilot.http.pooled import Upstream, UpstreamError
from contextpilot.http.response import BrokenAnswerError
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import Head, Plan
from contextpilot.planning import Job, Planned
from contextpilot.prompt.apis.shape import Shape
from contextpilot.prompt.conversation.pending import PendingRewrite
from contextpilot.prompt.conversation.written_orders import WrittenOrders
from contextpilot.server.observe.metrics import Metrics
from contextpilot.server.pool.engine_pool import EngineDownError
from contextpilot.server.pool.member import Engine
from contextpilot.server.proxy.incoming import Incoming, RequestReader
from contextpilot.server.proxy.outgoing import Target, engine_headers, engine_members, target_url
from contextpilot.server.proxy.recent_prompts import KeptPrompt, RecentPrompts
from contextpilot.server.proxy.tenants import salt_of
from contextpilot.server.service import Service

logger = logging.getLogger(__name__)

KEY_VARIABLE = "CONTEXTPILOT_ENGINE_KEY"
"""Sent to engines that ask for a key: those of clients are not kept."""
_LIMITS = {"chat": "max_tokens", "completions": "max_tokens", "messages": "max_tokens"}
"""The APIs that can be asked for one token, and how."""
_DROPPED = ("stream_options", "max_completion_tokens", "n", "best_of", "stop")
_LOOK_EVERY_S = 0.25
_LIMIT_S = 600.0
"""Longest time that warming an engine may take, waiting for quiet moments included."""


Path: TypeAlias = tuple[BlockKey, ...]
_Read: TypeAlias = tuple[Incoming, Sequence[Block]]


class WarmPrompt(NamedTuple):
    """A prompt to send: a request cut after the blocks of its prefix."""

    request: Incoming
    rewrite: PendingRewrite
    blocks: Sequence[Block]
    body: dict[str, Any]


class Warming:
    """Looks for engines that came back, and warms them. For use on one event loop.

    Attributes:
        recent: the requests that are kept.
    """

    def __init__(self, service: Service, upstream: Upstream, recent: RecentPrompts) -> None:
        self._service = service
        self._settings = service.settings
        self._upstream = upstream
        self.recent = recent
        self._seen: dict[str, int] = {}
        self._limit_s = min(_LIMIT_S, self._settings.warm_keep_s / 2)

    async def run(self) -> None:
        """Look until cancelled, where requests are kept."""
        running: set[asyncio.Task[None]] = set()
        try:
            while self._settings.warm_keep_s:
                await asyncio.sleep(_LOOK_EVERY_S)
                self.recent.expire()
                for engine in self._service.pool.engines:
                    if engine.up and self._seen.get(engine.name, 0) != engine.times_emptied:
                        self._seen[engine.name] = engine.times_emptied
                        task = asyncio.create_task(self._warm(engine))
                        running.add(task)
                        task.add_done_callback(running.discard)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _warm(self, engine: Engine) -> None:
        """Warm an engine; what takes longer than its requests may be kept is given up."""
        kept = self.recent.younger_than(self._settings.warm_keep_s - self._limit_s)
        if not kept or engine.kind.is_synced_by_age:  # clouds: others' tokens
            return
        try:
            text = "engine %s came back: %d prefixes of %d recent requests warmed, %d tokens"
            warmed = await asyncio.wait_for(self._sent_all(engine, kept), self._limit_s)
            logger.info(text, engine.name, warmed[0], len(kept), warmed[1])
        except (UpstreamError, BrokenAnswerError, EngineDownError, asyncio.TimeoutError) as error:
            why = str(error) or "the engine was never idle"
            logger.warning("engine %s was not fully warmed: %s", engine.name, why)
        except Exception:  # whatever it is, requests go on
            logger.exception("engine %s could not be warmed", engine.name)

    async def _sent_all(self, engine: Engine, kept: Sequence[KeptPrompt]) -> tuple[int, int]:
        """Send what is worth it; return how many prompts that were, and the tokens computed."""
        prompts = await asyncio.to_thread(self._planned, kept, self._settings.warm_tokens)
        computed = 0
        for prompt in prompts:
            while engine.line.in_flight or len(engine.line):
                await asyncio.sleep(_LOOK_EVERY_S)
            computed += await self._send(engine, prompt)
        return len(prompts), computed

    # -- what to send ----------------------------------------------------------------------------

    def _planned(self, kept: Sequence[KeptPrompt], budget: int) -> list[WarmPrompt]:
        """Return the prompts that are worth their tokens."""
        from contextpilot.plan.warm import planned_paths, worth_computing  # it takes a while

        owners: dict[Path, Incoming] = {}
        paths: list[Path] = []
        weights: dict[BlockKey, int] = {}
        for (namespace, head), requests in self._alike(kept).items():
            start = ("head", namespace, head)
            weights[start] = head.tokens
            by_blocks = {}
            for request, blocks in requests:
                by_blocks[frozenset(block.key for block in blocks)] = request
                weights.update((block.key, block.weight) for block in blocks)
            contexts = [blocks for _, blocks in requests]
            for keys in planned_paths(contexts, self._service.defaults.bounds):
                paths.append((start, *keys))
                owners[paths[-1]] = by_blocks[frozenset(keys)]
        found = worth_computing(paths, weights, budget)
        return [p for each in found if (p := self._prompt(each.keys, owners)) is not None]

    def _alike(self, kept: Sequence[KeptPrompt]) -> dict[tuple[str, Head], list[_Read]]:
        """Read requests anew, and return those that begin alike together."""
        alike: dict[tuple[str, Head], list[_Read]] = {}
        reader = RequestReader(self._service, Metrics(), WrittenOrders())  # it remembers: let it go
        for each in kept:
            request = reader.read(each.scope, each.body)
            request = replace(request, tenant=each.tenant, namespace=each.namespace)
            rewrite = request.rewrite
            if rewrite is not None and rewrite.blocks and request.api in _LIMITS:
                read = request, rewrite.blocks
                alike.setdefault((request.namespace, rewrite.head), []).append(read)
        return alike

    def _prompt(self, keys: Path, owners: dict[Path, Incoming]) -> WarmPrompt | None:
        """Return the prompt of a prefix: of a request that begins with it, cut after it."""
        path = next(path for path in owners if path[: len(keys)] == keys)
        request = owners[path]
        rewrite, shape = request.rewrite, request.shape
        assert rewrite is not None, "it was read with one"
        assert shape is not None, "it has blocks"
        ranks = {block.key: rank for rank, block in reversed(list(enumerate(rewrite.blocks)))}
        order = list(dict.fromkeys(ranks[key] for key in path[1:]))
        order += [rank for rank in range(len(rewrite.blocks)) if rank not in order]
        blocks = [rewrite.blocks[rank] for rank in order[: len(keys) - 1]]
        written = rewrite.write(Planned(0, Plan(tuple(order), 0), Explanation("")))
        body = cut_after(shape, written.body, [block.text for block in blocks])
        if body is None or not blocks:
            return None
        body = {name: value for name, value in body.items() if name not in _DROPPED}
        body |= {_LIMITS[request.api]: 1, "stream": False}
        return WarmPrompt(request, rewrite, blocks, body)

    # -- sending ---------------------------------------------------------------------------------

    async def _send(self, engine: Engine, prompt: WarmPrompt) -> int:
        """Send a prompt to this engine; return the tokens that it computed."""
        request, head = prompt.request, prompt.rewrite.head
        pool, kept = self._service.pool, Bounds(enabled=False)
        others = {other.name for other in pool.engines if other is not engine}
        leased = pool.lease(request.namespace, prompt.blocks, head, bounds=kept, exclude=others)
        async with leased as lease:
            job = Job(request.namespace, [prompt.blocks], kept, head, [0])
            (planned,) = await lease.run(job)
            kind = await pool.kind_of(engine)
            salts = self._settings.cache_salt and kind.salt_member
            salt = salt_of(request.tenant, self._settings, None) if salts else None
            target = Target(kind, engine.url, salt)
            headers, _ = engine_headers(request, kind, planned.request_id, self._settings)
            if key := checked_key(KEY_VARIABLE, os.environ.get(KEY_VARIABLE, "")):
                headers.append((b"authorization", b"Bearer " + key.encode()))
            headers.append((b"content-type", b"application/json"))
            members = engine_members(request, target, planned.request_id, lease.id_slot)
            body = json.dumps({**prompt.body, **members}).encode()
            url = target_url(engine.url, request.scope)
            usage = UsageReader()
            async with self._upstream.open("POST", url, headers, body) as answer:
                async for piece in answer.chunks():  # it may have no end
                    usage.feed(piece)
                if answer.status != 200:
                    raise UpstreamError(answer.status, f"it answers {answer.status}")
            lease.first_byte()
            lease.confirm()
            prompt_tokens, cached_tokens = usage.result()
            return (prompt_tokens or 0) - (cached_tokens or 0)


def cut_after(shape: Shape, body: dict[str, Any], texts: Sequence[str]) -> dict[str, Any] | None:
    """Return a body whose prompt ends after these texts, which follow each other in a message.

    None where no message holds them as they are.
    """
    messages = shape.searched(body)
    for at in reversed(range(len(messages))):
        content, end = messages[at].get("content"), 0
        if not isinstance(content, str):
            continue
        for text in texts:
            found = content.find(text, end)
            end = found + len(text) if found >= 0 else len(content) + 1
        if end <= len(content):
            cut = {**messages[at], "content": content[:end]}
            return shape.with_searched(body, [*messages[:at], cut])
    return None

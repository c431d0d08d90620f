"""Puts together what follows an engine of a pool by its KV events."""

from __future__ import annotations

from functools import partial

from contextpilot.engines.asked_layers import EngineLayers
from contextpilot.engines.fetch import Fetch
from contextpilot.http.pooled import Upstream
from contextpilot.http.response import Headers
from contextpilot.server.pool.kv_follower import KvFollower
from contextpilot.server.pool.member import Engine
from contextpilot.server.pool.pool_receiver import PoolReceiver
from contextpilot.sync.sources.kv_events.feed import KvFeed, Told
from contextpilot.sync.sources.kv_events.local_tokenizer import LocalTokenizer


def follower_of(engine: Engine, receiver: PoolReceiver, upstream: Upstream) -> KvFollower:
    """Return what follows an engine that publishes KV events, not started.

    Raises:
        MissingExtraError: the extra `kv-events` is not installed.
    """
    at = engine.kv_address
    assert at is not None, "it publishes none"
    name = f"kv-events-{engine.name}"
    told = Told(
        receive=partial(receiver.told_by, engine, name),
        leave=partial(receiver.part, name),
        has_hooks=partial(receiver.has_others, engine, name),
        held=receiver.told_tokens,
    )
    fetch = Fetch(upstream)

    async def ask(headers: Headers, method: str, path: str) -> tuple[int, bytes]:
        return await fetch(engine.url + path, method, headers)

    layers = EngineLayers(engine.url, lambda: engine.kind, ask)
    feed = KvFeed(name, at, told, lambda: engine.kind.name, layers.known)
    layers.starts = lambda: feed.num_begun
    tokenizer = LocalTokenizer(at.tokenizer) if at.tokenizer else None
    return KvFollower(engine.url, feed, lambda: engine.kind, upstream, layers, tokenizer)

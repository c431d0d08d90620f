"""What a vLLM engine's KV events alone say of its requests; predictions are made from it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from launch import free_port

from contextpilot.named import point_below
from contextpilot.sync.events import SyncMessage
from contextpilot.sync.sources.kv_events.address import KvAddress
from contextpilot.sync.sources.kv_events.feed import KvFeed, Prompt, Told

QUIET_S = 0.15
"""Silence after which nothing more is on its way."""
LATEST_S = 5.0


class EventIndex:
    """Listens to the engine that is launched with `options`, until `close`."""

    def __init__(self) -> None:
        self._block = 1
        self._held: dict[str, Any] = {}
        self._ports = free_port(), free_port()
        events, replay = (f"tcp://127.0.0.1:{port}" for port in self._ports)
        told = Told(self._receive, self._held.clear, lambda: False, lambda _: None)
        self._feed = KvFeed("events", KvAddress(events, replay), told)
        self._feed.start()

    @property
    def options(self) -> dict[str, Any]:
        """The engine's options."""
        from vllm.config import KVEventsConfig

        events, replay = (f"tcp://*:{port}" for port in self._ports)
        config = KVEventsConfig(
            enable_kv_cache_events=True, publisher="zmq", endpoint=events, replay_endpoint=replay
        )
        return {"kv_events_config": config}

    def sent(self, name: str, tokens: Sequence[int]) -> None:
        """Follow a request."""
        self._feed.follow(Prompt(name, tokens))

    def settled(self, shared: Mapping[str, int], told: int) -> int:
        """Return the tokens that a prompt reuses, once all that happened was told.

        Args:
            shared: how much of it each request shares.
            told: what is known otherwise; on a starved machine events come late, and so much is
                waited for, `LATEST_S` at most.
        """
        latest = time.monotonic() + LATEST_S
        while True:
            self._settle()
            found = max(self.reusable(name, tokens) for name, tokens in shared.items())
            if found >= told or time.monotonic() > latest:
                return found

    def _settle(self) -> None:
        last, quiet_at = -1, 0.0
        while time.monotonic() < quiet_at or last < 0:
            count = self._feed.state()["num_messages"]
            if count != last:
                last, quiet_at = count, time.monotonic() + QUIET_S
            time.sleep(0.02)

    def reusable(self, name: str, shared: int) -> int:
        """Tokens that a prompt reuses which is the same as a request's up to `shared` tokens."""
        event = self._held.get(name)
        if event is None or event.kind == "unfollowed":
            return 0
        whole = shared // self._block * self._block
        return (
            min(event.tokens, whole) if event.points is None else point_below(event.points, whole)
        )

    def state(self) -> Mapping[str, Any]:
        """What the feed says of itself."""
        return self._feed.state()

    def close(self) -> None:
        """End listening."""
        self._feed.close()

    def _receive(self, message: SyncMessage) -> str:
        self._block = message.block_size
        if message.snapshot:
            self._held.clear()
        self._held.update((event.request, event) for event in message.events)
        return "ok"

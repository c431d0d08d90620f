"""Checks of the KV events that engines publish: whether they arrive, and agree with the hooks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from contextpilot.commands.checks.check import Check
from contextpilot.engines.base import ToldLayers
from contextpilot.engines.blocking_layers import BlockingLayers
from contextpilot.sync.sources.kv_events.address import KvAddress, parse_addresses
from contextpilot.sync.sources.kv_events.feed import KvFeed, Told
from contextpilot.sync.sources.kv_events.packages import MissingExtraError

_WAIT_S = 5.0
_LAUNCH = (
    'launch the engine with --kv-events-config \'{"enable_kv_cache_events": true, "publisher": '
    '"zmq", "endpoint": "tcp://*:5557", "replay_endpoint": "tcp://*:5558"}\''
)


def check_kv_events(
    texts: Sequence[str], send: Callable[[], object] | None, engines: Sequence[str] = ()
) -> Iterator[Check]:
    """Listen at each address for a few seconds.

    Args:
        engines: base URLs, in the order of the addresses: asked for what their events leave out.
        send: lets the engine read a prompt meanwhile, so that there is something to publish.
    """
    if not texts:
        return
    try:
        addresses = parse_addresses(texts)
    except ValueError as error:
        like = "--kv-events tcp://127.0.0.1:5557,replay=tcp://127.0.0.1:5558"
        yield Check("KV events", "fail", str(error), like)
        return
    for address, url in zip(addresses, [*engines, *[""] * len(addresses)], strict=False):
        yield _listen(address, address.engine or url, send)


def _listen(address: KvAddress, url: str, send: Callable[[], object] | None) -> Check:
    name = f"KV events at {address.endpoint}"
    layers = _layers_at(url)
    try:
        told = Told(lambda _: "ok", lambda: None, lambda: False, lambda _: None)
        known = layers.known if layers else ToldLayers
        feed = KvFeed("doctor", address, told, layers=known)
        if layers is not None:
            layers.starts = lambda: feed.num_begun
    except MissingExtraError as error:
        return Check(name, "fail", str(error), "pip install pyzmq msgspec")
    feed.start()
    try:
        _wait(lambda: feed.is_connected)
        if send is not None:
            send()
        _wait(lambda: bool(feed.state()["num_messages"]))
        if layers is not None:
            layers.ask()
        state = feed.state()
    finally:
        feed.close()
    if state["state"] != "off" and not state["num_messages"]:
        return Check(name, "warn", "connected, but nothing arrived", "send the engine a prompt")
    return judge_kv_events(name, state)


def _layers_at(url: str) -> BlockingLayers | None:
    from contextpilot.http.blocking import BlockingHttp  # requests takes a while to import

    try:
        return BlockingLayers(BlockingHttp(url, {}, _WAIT_S)) if url else None
    except ValueError:  # the check of the engine says what is wrong with it
        return None


def judge_kv_events(name: str, state: Mapping[str, Any]) -> Check:
    """Return what a server or a feed says of an engine's KV events, as a check."""
    came = f"{state.get('num_messages')} messages, {state.get('num_gaps')} gaps"
    if state.get("refused"):
        detail = f"only the hooks can report a cache with {state['refused']}"
        return Check(name, "warn", detail, "launch the engine with the hooks")
    if state.get("state") == "off":
        return Check(name, "warn", "nothing publishes there", _LAUNCH)
    if state.get("num_malformed"):
        detail = f"{state['num_malformed']} payloads of unknown form"
        return Check(name, "warn", detail, "check that vLLM or SGLang publishes there")
    if state.get("num_differing"):
        detail = f"of {state['num_differing']} requests they disagree with the hooks"
        return Check(name, "warn", detail, "report this")
    if state.get("state") == "approximate":
        detail = f"{came}; what was cached before we connected is unknown"
        fix = 'add ,replay=tcp://HOST:PORT, and launch the engine with "replay_endpoint"'
        return Check(name, "warn", detail, fix)
    agree = f"; the hooks agree on {state['num_agreed']} requests" if state["num_agreed"] else ""
    return Check(name, "ok", came + agree)


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _WAIT_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)

"""Whether the shim of a llama-server has reported at the index."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple

GRACE_S = 5.0
"""Time that the shim has to report once llama-server serves."""
_MAX_WAIT_S = 1800.0
_TIMEOUT_S = 3.0
_PAUSE_S = 0.25


class Watched(NamedTuple):
    """A llama-server whose shim is to report.

    Attributes:
        index_url, token: where it reports, and what it says to be let in.
        server_url: its own address.
    """

    pid: int
    index_url: str
    token: str
    server_url: str


def wait_for_hello(
    watched: Watched, is_alive: Callable[[], bool], wait_s: float = _MAX_WAIT_S
) -> str | None:
    """Wait until the shim has reported; return why it seems that it never will, or None.

    A large model may take minutes to load, and the shim reports after that: so the wait ends soon
    after llama-server serves, or with its end, or after `wait_s` seconds.
    """
    deadline = time.monotonic() + wait_s
    while True:
        told = _reporters(watched)
        if told is not None and watched.pid in told:
            return None
        now = time.monotonic()
        if now >= deadline:
            break
        if not is_alive():
            return "llama-server has ended"
        if _fetch(watched.server_url + "/health") is not None:
            deadline = min(deadline, now + GRACE_S)
        time.sleep(_PAUSE_S)
    if told is None:
        return f"the index at {watched.index_url} does not answer; the shim keeps trying"
    return (
        "the shim has not reported: llama-server may be static or protected; "
        "the index will not know what its slots hold"
    )


def _reporters(watched: Watched) -> set[Any] | None:
    """Return the processes that report to the index; None when it does not answer."""
    headers = {"Authorization": f"Bearer {watched.token}"} if watched.token else {}
    content = _fetch(watched.index_url.rstrip("/") + "/health", headers)
    if not isinstance(content, dict):
        return None
    engines = content.get("sync", content.get("engines"))
    known = engines.values() if isinstance(engines, dict) else ()
    return {engine.get("pid") for engine in known if isinstance(engine, dict)}


def _fetch(url: str, headers: dict[str, str] | None = None) -> Any:
    """Return decoded JSON; None when there is no good answer."""
    from contextpilot.http.blocking import BlockingHttp  # requests takes a while to import

    try:
        with contextlib.closing(BlockingHttp(url, headers or {}, _TIMEOUT_S)) as http:
            reply = http.call("GET", "", None, _TIMEOUT_S)
        return json.loads(reply.body) if reply.status == 200 else None
    except (OSError, ValueError):
        return None

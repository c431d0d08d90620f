"""Whether the shim of a llama-server has reported at the index."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from http.client import HTTPException
from typing import Any, NamedTuple
from urllib.request import ProxyHandler, Request, build_opener

GRACE_S = 5.0
"""Time that the shim has to report once llama-server serves."""
_MAX_WAIT_S = 1800.0
_TIMEOUT_S = 3.0
_PAUSE_S = 0.25
_MAX_BYTES = 16 << 20


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
        if not isinstance(told, str) and watched.pid in told:
            return None
        now = time.monotonic()
        if now >= deadline:
            break
        if not is_alive():
            return "llama-server has ended"
        if _fetch(watched.server_url + "/health") is not None:
            deadline = min(deadline, now + GRACE_S)
        time.sleep(_PAUSE_S)
    if isinstance(told, str):
        return f"{watched.index_url} {told}; the shim keeps trying"
    return (
        "the shim has not reported: llama-server may be static or protected; "
        "the index will not know what its slots hold"
    )


def _reporters(watched: Watched) -> set[Any] | str:
    """Return the processes that report to the index, or in words why that is not known."""
    headers = {"Authorization": f"Bearer {watched.token}"} if watched.token else {}
    url = watched.index_url.rstrip("/")
    content = _fetch(url + "/health", headers)
    engines = content.get("sync", content.get("engines")) if isinstance(content, dict) else None
    if not isinstance(engines, dict):
        told = "does not answer" if content is None else "is no index"
        return told + (" (an index is at the URL without /v1)" if url.endswith("/v1") else "")
    known = engines.values()
    return {engine.get("pid") for engine in known if isinstance(engine, dict)}


def _fetch(url: str, headers: dict[str, str] | None = None) -> Any:
    """Return decoded JSON; None when there is no good answer."""
    # as the shim reaches it: without proxies, and with the standard library alone
    opener = build_opener(ProxyHandler({}))
    try:
        with opener.open(Request(url, headers=headers or {}), timeout=_TIMEOUT_S) as reply:
            return json.loads(reply.read(_MAX_BYTES))
    except (OSError, ValueError, HTTPException):
        return None

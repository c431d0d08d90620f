"""What the server says at its start: where it is, what it will do, what it lacks."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from contextpilot import __version__
from contextpilot.http.address import is_loopback
from contextpilot.server.pool.engine_pool import EnginePool
from contextpilot.server.settings import Settings
from contextpilot.server.variables import told, unread

_ANY = ("0.0.0.0", "::", "")
_WAIT_S = 2.0
_ASK_EVERY_S = 0.05
_REPORTS = "launch it with CONTEXTPILOT_INDEX_URL={url}, where contextpilot is installed"


class Line(NamedTuple):
    """One line; a warning tells of what will not work as it may be meant."""

    text: str
    is_warning: bool = False


def address_for_clients(host: str, port: int) -> str:
    """Return the URL under which others reach the server."""
    name = socket.gethostname() if host in _ANY else host
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


async def greeting(settings: Settings, port: int, pool: EnginePool) -> list[Line]:
    """Return what to say, once the engines were asked, or did not answer in time."""
    deadline = asyncio.get_running_loop().time() + _WAIT_S
    while any(engine.is_real and engine.up is None for engine in pool.engines):
        if asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(_ASK_EVERY_S)
    return list(_lines(settings, address_for_clients(settings.host, port), pool.health()))


def _lines(settings: Settings, url: str, engines: Sequence[Mapping[str, Any]]) -> Iterator[Line]:
    yield Line(f"ContextPilot {__version__} listens at {url}; dashboard: {url}/")
    real = [engine for engine in engines if engine["url"]]
    if real:
        yield Line(f"base URL for OpenAI clients: {url}/v1, for Anthropic clients: {url}")
    else:
        yield Line(
            "no engine given: index only. Applications plan here with "
            f"ContextPilot(index_url={url!r}); requests to /v1 are refused until an engine joins "
            "(--engine URL)"
        )
    for engine in real:
        yield _engine(engine, url)
    if settings.mode == "off" or not (settings.reorder or settings.deduplicate):
        yield Line("nothing is planned: mode is off, or reorder and deduplicate are off", True)
    if settings.index_token:
        yield Line("the index API and the dashboard require the index token; /v1 does not")
    elif not is_loopback(settings.host):
        yield Line(
            f"other machines can reach {settings.host}, and --open-index requires no token: "
            "anyone who reaches it can read and change the index",
            True,
        )
    for name, meant in unread(os.environ):
        yield Line(told(name, meant), True)


def _engine(engine: Mapping[str, Any], url: str) -> Line:
    name, kind = f"engine {engine['engine']}", engine["kind"]
    if not engine["up"]:
        where = "" if engine["engine"] in engine["url"] else f" at {engine['url']}"
        return Line(
            f"{name}{where} does not answer yet: requests are refused until an engine does", True
        )
    if engine["sync"] == "off":
        hint = _REPORTS.format(url=url)
        return Line(f"{name} ({kind}) answers; sync is off, so its evictions are unknown: {hint}")
    return Line(f"{name} ({kind}) answers; sync is {engine['sync']}")

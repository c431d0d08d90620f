"""Which kind an engine is of: asked once it answers, by the paths that only one kind serves."""

from __future__ import annotations

import asyncio
import urllib.parse

from contextpilot.engines.base import EngineKind, Get, Probe
from contextpilot.engines.registry import AUTO, OTHER, kind_named, kinds


class EngineKinds:
    """Remembers the kind of each engine by its URL. For use on one event loop.

    Args:
        get: fetches a URL.
        fixed: name of the kind of every engine, or "auto" to find out.

    Raises:
        ValueError: there is no kind of this name.
    """

    def __init__(self, get: Get, fixed: str = AUTO) -> None:
        self._get = get
        self._fixed = None if fixed == AUTO else kind_named(fixed)
        self._known: dict[str, EngineKind] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

    def known(self, url: str) -> EngineKind | None:
        """Return the kind of the engine at a URL as far as nobody has to be asked."""
        return self._fixed or self._known.get(url) or _kind_of_host(url)

    async def kind(self, url: str) -> EngineKind:
        """Return the kind of the engine at a URL; `OTHER` while it cannot be told."""
        known = self.known(url)
        if known is not None:
            return known
        asking = self._asking.get(url)
        if asking is None:
            asking = self._asking[url] = asyncio.create_task(self._ask(url))
        await asyncio.shield(asking)
        return self._known.get(url, OTHER)

    def forget(self, url: str) -> None:
        """Ask again with the next request: another engine may have taken the address."""
        self._known.pop(url, None)

    async def _ask(self, url: str) -> None:
        try:
            is_ready = True
            for probe, kind in _probes():
                status, body = await self._get(url + probe.path)
                if status == 200 and probe.sign in body:
                    self._known[url] = kind
                    return
                is_ready = is_ready and status < 500
            if is_ready:
                self._known[url] = OTHER
        except OSError:
            pass  # not up yet: asked again with the next request
        finally:
            del self._asking[url]


def _kind_of_host(url: str) -> EngineKind | None:
    parts = urllib.parse.urlsplit(url)
    by_host = (kind for kind in kinds() if parts.hostname in kind.hosts)
    segments = set(parts.path.split("/"))
    by_path = (kind for kind in kinds() if segments.intersection(kind.paths))
    return next(by_host, None) or next(by_path, None)


def _probes() -> list[tuple[Probe, EngineKind]]:
    """Return what to ask for, in order: what only one kind serves comes first."""
    asked = [(probe, kind) for kind in kinds() for probe in kind.probes]
    return sorted(asked, key=lambda each: each[0].is_common)

"""What an engine is: asked once it answers, by the paths that only one kind serves."""

from __future__ import annotations

import asyncio
import urllib.parse
from typing import Literal

from contextpilot.http.pooled import Upstream, UpstreamError
from contextpilot.http.response import BrokenAnswerError

Kind = Literal["vllm", "sglang", "llamacpp", "openai", "anthropic", "other"]

CLOUD: tuple[Kind, ...] = ("openai", "anthropic")
_HOSTS: dict[str, Kind] = {"api.openai.com": "openai", "api.anthropic.com": "anthropic"}
_PROBES: tuple[tuple[str, bytes, Kind], ...] = (
    ("/get_model_info", b"model_path", "sglang"),
    ("/model_info", b"model_path", "sglang"),
    ("/props", b"default_generation_settings", "llamacpp"),
    ("/version", b'"version"', "vllm"),
)
_PROBE_TIMEOUT_S = 5.0


class EngineKinds:
    """Remembers the kind of each engine by its URL.

    Args:
        fixed: the kind of every engine, or "auto" to find out.
    """

    def __init__(self, upstream: Upstream, fixed: str) -> None:
        self._upstream = upstream
        self._fixed = fixed
        self._known: dict[str, Kind] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

    def known(self, url: str) -> Kind | None:
        """Return the kind of the engine at a URL as far as nobody has to be asked."""
        if self._fixed != "auto":
            return self._fixed  # type: ignore[return-value]
        return self._known.get(url) or _HOSTS.get(urllib.parse.urlsplit(url).hostname or "")

    async def kind(self, url: str) -> Kind:
        """Return the kind of the engine at a URL; "other" while it cannot be told."""
        known = self.known(url)
        if known is not None:
            return known
        asking = self._asking.get(url)
        if asking is None:
            asking = self._asking[url] = asyncio.create_task(self._ask(url))
        await asyncio.shield(asking)
        return self._known.get(url, "other")

    async def _ask(self, url: str) -> None:
        try:
            for path, sign, kind in _PROBES:
                if sign in await asyncio.wait_for(self._get(url + path), _PROBE_TIMEOUT_S):
                    self._known[url] = kind
                    return
            self._known[url] = "other"
        except (UpstreamError, BrokenAnswerError, TimeoutError, asyncio.TimeoutError):
            pass  # not up yet: asked again with the next request
        finally:
            del self._asking[url]

    async def _get(self, url: str) -> bytes:
        async with self._upstream.open("GET", url, (), b"") as response:
            return await response.read() if response.status == 200 else b""

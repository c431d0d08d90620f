"""The way in: refuses web pages of strangers, guards the index API, leads what is hot past FastAPI.

FastAPI's layers cost about as much as planning does, and once more for every piece of a stream.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from contextpilot.http.callers import AllowedCallers
from contextpilot.prompt.apis.paths import is_engines
from contextpilot.server.errors import error_reply
from contextpilot.server.plain_path import leads_out
from contextpilot.server.protocol import cut_short

PROXIED = "/v1/"
_NO_PATH = "the path must not lead out of /v1"
_V1 = "an OpenAI client's base URL ends in /v1 (an Anthropic client adds that itself)"
_TWO_HOSTS = "Host must be given once"
_OTHER_CODING = "Transfer-Encoding must be chunked, and nothing else"
_VERSIONS = ("1.1", "1.0")
_OTHER_VERSION = "the version must be HTTP/1.1 or HTTP/1.0"
_OTHER_FRAMING = "HTTP/1.0 has no Transfer-Encoding: send Content-Length"
_REFUSED_METHODS = {
    "CONNECT": "CONNECT would open a tunnel through an engine: it is not supported",
    "TRACE": "TRACE would reveal keys: it is not supported",
}
_NO_TOKEN = (
    "Authorization must be 'Bearer' and the index token: set CONTEXTPILOT_INDEX_TOKEN to what "
    "the server was started with (--index-token)"
)


@dataclass
class Activity:
    """How busy the server is.

    Attributes:
        begun: requests since the start.
        running: requests that have not ended.
    """

    begun: int = 0
    running: int = 0


class Entry:
    """An ASGI middleware.

    Args:
        app: serves all that has no shortcut.
        proxy: serves what is under /v1.
        posts: what serves POST requests, by path.
        token: the index token; empty for none.
        unguarded: paths that need no token, beside the proxied.
        callers: by which names the server may be called.
    """

    def __init__(
        self,
        app: ASGIApp,
        proxy: ASGIApp,
        posts: Mapping[str, ASGIApp],
        token: str,
        unguarded: Collection[str],
        activity: Activity,
        callers: AllowedCallers,
    ) -> None:
        self._app = app
        self._proxy = proxy
        self._posts = posts
        self._expected = f"Bearer {token}".encode() if token else b""
        self._unguarded = unguarded
        self._activity = activity
        self._callers = callers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._activity.begun += 1
        self._activity.running += 1
        try:
            await self._choose(scope)(scope, receive, send)
        except asyncio.CancelledError:  # the server stops, and the time to end is over
            cut_short(scope)
        finally:
            self._activity.running -= 1

    def _choose(self, scope: Scope) -> ASGIApp:
        path, headers = scope["path"], dict(scope["headers"])
        refusal = self._refusal(scope["method"], headers)
        if refusal is not None:
            return error_reply(403, refusal)
        if sum(name == b"host" for name, _ in scope["headers"]) > 1:
            return error_reply(400, _TWO_HOSTS)
        codings = [value for name, value in scope["headers"] if name == b"transfer-encoding"]
        if any(coding.strip().lower() != b"chunked" for coding in codings):
            return error_reply(501, _OTHER_CODING)
        if scope["method"] in _REFUSED_METHODS:
            return error_reply(405, _REFUSED_METHODS[scope["method"]])
        if scope["http_version"] not in _VERSIONS:
            return error_reply(505, _OTHER_VERSION)
        if codings and scope["http_version"] == "1.0":  # RFC 9112, 6.1
            return error_reply(400, _OTHER_FRAMING)
        if path.startswith(PROXIED):
            return error_reply(400, _NO_PATH) if leads_out(path) else self._proxy
        if is_engines("/v1" + path) and path not in self._posts:
            return error_reply(404, f"there is no {path}: {_V1}")
        if self._expected and path not in self._unguarded and not self._is_allowed(headers):
            return error_reply(401, _NO_TOKEN)
        direct = self._posts.get(path) if scope["method"] == "POST" else None
        return direct or self._app

    def _refusal(self, method: str, headers: Mapping[bytes, bytes]) -> str | None:
        origin, kind = headers.get(b"origin"), headers.get(b"content-type")
        return self._callers.refusal(
            method,
            headers.get(b"host", b"").decode("latin-1"),
            None if origin is None else origin.decode("latin-1"),
            None if kind is None else kind.decode("latin-1"),
        )

    def _is_allowed(self, headers: Mapping[bytes, bytes]) -> bool:
        return hmac.compare_digest(headers.get(b"authorization", b""), self._expected)

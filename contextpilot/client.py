"""Clients of a server's index API: `Client`, and `AsyncClient` with the same calls to await.

    with Client("http://127.0.0.1:8765") as client:
        prompt = client.optimize(["first block", "second block"], "the question")
        messages, request_id = prompt["messages"], prompt["request_id"]

Replies are the decoded JSON that the server's `/docs` describes.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import threading
import urllib.parse
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from contextpilot.errors import ContextPilotError

Json = dict[str, Any]
_Reply = TypeVar("_Reply")
_Text = TypeVar("_Text")

DEFAULT_URL = "http://127.0.0.1:8765"
_TIMEOUT_S = 60.0


class ServerError(ContextPilotError, RuntimeError):
    """The server refused a call, or did not answer.

    Attributes:
        status: HTTP status; None when there was no answer.
        field: the part of the request at fault, where the server named one.
    """

    def __init__(self, message: str, status: int | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.field = field


class _Calls(Generic[_Reply, _Text]):
    """The calls of the index API. Options are those of `contextpilot.options.Options`."""

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> _Reply:
        raise NotImplementedError

    def _text(self, path: str) -> _Text:
        raise NotImplementedError

    def reorder(
        self,
        contexts: Sequence[Any],
        *,
        namespace: str = "default",
        stateless: bool = False,
        **options: Any,
    ) -> _Reply:
        """Put the blocks of one context, or of a list of contexts, in the order that hits."""
        body = {"contexts": contexts, "namespace": namespace, "stateless": stateless}
        return self._json("POST", "/reorder", body | options)

    def optimize(
        self,
        contexts: Sequence[Any],
        query: str,
        *,
        conversation_id: str | None = None,
        system_instruction: str | None = None,
        history: Sequence[Mapping[str, Any]] | None = None,
        namespace: str = "default",
        **options: Any,
    ) -> _Reply:
        """Plan one request and write its chat messages."""
        body = {
            "contexts": contexts,
            "query": query,
            "conversation_id": conversation_id,
            "system_instruction": system_instruction,
            "history": history,
            "namespace": namespace,
        }
        return self._json("POST", "/optimize", body | options)

    def optimize_batch(
        self,
        all_contexts: Sequence[Sequence[Any]],
        queries: Sequence[str],
        *,
        system_instruction: str | None = None,
        namespace: str = "default",
        **options: Any,
    ) -> _Reply:
        """Plan requests together; their prompts come in execution order."""
        body = {
            "all_contexts": all_contexts,
            "queries": queries,
            "system_instruction": system_instruction,
            "namespace": namespace,
        }
        return self._json("POST", "/optimize_batch", body | options)

    def deduplicate(
        self,
        contexts: Sequence[Any],
        conversation_id: str,
        *,
        namespace: str = "default",
        hint_template: str | None = None,
    ) -> _Reply:
        """Compare a context with the blocks that its conversation was given."""
        body = {
            "contexts": contexts,
            "conversation_id": conversation_id,
            "namespace": namespace,
            "hint_template": hint_template,
        }
        return self._json("POST", "/deduplicate", body)

    def plan(self, job: Mapping[str, Any]) -> _Reply:
        """Plan an encoded job (`contextpilot.planning.encode_job`): keys and weights, no texts."""
        return self._json("POST", "/plan", job)

    def evict(self, request_ids: Sequence[str]) -> _Reply:
        """Tell that the prompts of requests are wholly gone from the engine's cache."""
        return self._json("POST", "/evict", {"request_ids": request_ids})

    def sync(self, message: Mapping[str, Any]) -> _Reply:
        """Send a message of an engine (the event schema)."""
        return self._json("POST", "/sync", message)

    def reset(self, namespace: str | None = None) -> _Reply:
        """Forget one namespace, or everything."""
        return self._json("POST", "/reset", {"namespace": namespace})

    def requests(self, limit: int = 100) -> _Reply:
        """Return the latest requests, newest first."""
        return self._json("GET", f"/requests?limit={limit}")

    def explain(self, request_id: str) -> _Reply:
        """Tell why a request hit or missed."""
        return self._json("GET", "/explain/" + urllib.parse.quote(request_id, safe=""))

    def stats(self, namespace: str | None = None) -> _Reply:
        """Return sums over all namespaces, or those of one."""
        query = "" if namespace is None else "?namespace=" + urllib.parse.quote(namespace, safe="")
        return self._json("GET", "/stats" + query)

    def health(self) -> _Reply:
        """Return whether requests can be served, and the state of each engine."""
        return self._json("GET", "/health")

    def metrics(self) -> _Text:
        """Return the counters in Prometheus' text format."""
        return self._text("/metrics")


class Client(_Calls[Json, str]):
    """A client that blocks. Thread-safe.

    Args:
        url: base URL of the server.
        token: the server's index token; default: CONTEXTPILOT_INDEX_TOKEN.
        timeout_s: longest time without a sign of the server.

    Raises:
        ServerError: from every call, when the server refuses it or does not answer.
    """

    def __init__(
        self, url: str = DEFAULT_URL, token: str | None = None, timeout_s: float = _TIMEOUT_S
    ) -> None:
        self._parts = _parse_url(url)
        self._headers = _headers(token)
        self._timeout = timeout_s
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connections; the next call opens one again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Json:
        return _decode(*self._request(method, path, body))

    def _text(self, path: str) -> str:
        return _decode_text(*self._request("GET", path, None))

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None) -> tuple[int, bytes]:
        data = _encode(body)
        while True:
            connection, is_kept = self._take()
            try:
                connection.request(method, self._parts.path + path, data, self._headers)
                reply = connection.getresponse()
                content = reply.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if is_kept and isinstance(error, ConnectionError):
                    continue  # the server closed it while it was idle
                raise ServerError(f"the server does not answer: {error!r}") from error
            with self._lock:
                self._idle.append(connection)
            return reply.status, content

    def _take(self) -> tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            if self._idle:
                return self._idle.pop(), True
        https = self._parts.scheme == "https"
        kind = http.client.HTTPSConnection if https else http.client.HTTPConnection
        return kind(self._parts.hostname or "", self._parts.port, timeout=self._timeout), False


class AsyncClient(_Calls[Awaitable[Json], Awaitable[str]]):
    """A client whose calls are awaited. For use within one event loop; arguments as of `Client`."""

    def __init__(
        self, url: str = DEFAULT_URL, token: str | None = None, timeout_s: float = _TIMEOUT_S
    ) -> None:
        from contextpilot.server.upstream import Upstream

        self._url = url.rstrip("/")
        _parse_url(url)
        self._headers = [
            (name.lower().encode(), value.encode()) for name, value in _headers(token).items()
        ]
        self._upstream = Upstream(timeout_s, timeout_s)

    async def close(self) -> None:
        """Close the connections."""
        self._upstream.close()
        await asyncio.sleep(0)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Json:
        return _decode(*await self._request(method, path, body))

    async def _text(self, path: str) -> str:
        return _decode_text(*await self._request("GET", path, None))

    async def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> tuple[int, bytes]:
        from contextpilot.server.upstream import UpstreamError

        data = _encode(body) or b""
        try:
            opened = self._upstream.open(method, self._url + path, self._headers, data)
            async with opened as answer:
                return answer.status, await answer.read()
        except (UpstreamError, OSError) as error:
            raise ServerError(f"the server does not answer: {error}") from error


def _parse_url(url: str) -> urllib.parse.SplitResult:
    parts = urllib.parse.urlsplit(url) if isinstance(url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f'url must be like "{DEFAULT_URL}", not {url!r}')
    return parts._replace(path=parts.path.rstrip("/"))


def _headers(token: str | None) -> dict[str, str]:
    token = os.environ.get("CONTEXTPILOT_INDEX_TOKEN") if token is None else token
    headers = {"Content-Type": "application/json"}
    return headers | ({"Authorization": f"Bearer {token}"} if token else {})


def _encode(body: Mapping[str, Any] | None) -> bytes | None:
    """Return the body's JSON; what is None is left out, so that the server's default holds."""
    if body is None:
        return None
    return json.dumps({name: value for name, value in body.items() if value is not None}).encode()


def _decode(status: int, content: bytes) -> Json:
    try:
        decoded: Json = json.loads(content)
    except ValueError:
        raise ServerError(f"the server answered {status}, and no JSON", status) from None
    if status >= 400 and "error" in decoded:
        error = decoded["error"]
        raise ServerError(error["message"], status, error["field"])
    return decoded


def _decode_text(status: int, content: bytes) -> str:
    if status >= 400:
        _decode(status, content)
    return content.decode()

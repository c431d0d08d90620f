"""Clients of a server's index API: `Client`, and `AsyncClient` with the same calls, async.

    with Client("http://127.0.0.1:8765") as client:
        prompt = client.optimize(["first block", "second block"], "the question")
        messages, request_id = prompt["messages"], prompt["request_id"]

Replies are the decoded JSON that the server's `/docs` describes. A `ContextPilot(listen=...)`
answers `plan`, `sync`, `evict` and `health`.
"""

from __future__ import annotations

import asyncio
import json
import os
import urllib.parse
from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from contextpilot.errors import NoIndexError, ServerError, TokenError, UnreachableError
from contextpilot.http.address import Address, quoted
from contextpilot.http.keys import checked_key

if TYPE_CHECKING:
    from contextpilot.http.blocking import BlockingHttp

Json = dict[str, Any]
_Reply = TypeVar("_Reply")
_Text = TypeVar("_Text")

DEFAULT_URL = "http://127.0.0.1:8765"
_TIMEOUT_S = 60.0
_CONNECT_TIMEOUT_S = 10.0
_TOKEN = "CONTEXTPILOT_INDEX_TOKEN"
_SHOWN_CHARS = 300


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
        """Put the blocks of one context, or of a list of contexts, in the order that hits most."""
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

    def rewrite(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        system: str | Sequence[Mapping[str, Any]] | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        namespace: str = "default",
        **options: Any,
    ) -> _Reply:
        """Plan a whole conversation; arguments and options are those of `ContextPilot.rewrite`."""
        body = {"messages": messages, "system": system, "tools": tools, "namespace": namespace}
        return self._json("POST", "/rewrite", body | options)

    def deduplicate(
        self,
        contexts: Sequence[Any],
        conversation_id: str,
        *,
        namespace: str = "default",
        hint_template: str | None = None,
    ) -> _Reply:
        """Compare a context with the blocks that its conversation already has."""
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
        """Report that the prompts of requests are completely gone from the engine's cache."""
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
        """Say why a request hit or missed."""
        return self._json("GET", "/explain/" + urllib.parse.quote(request_id, safe=""))

    def stats(self, namespace: str | None = None) -> _Reply:
        """Return sums over all namespaces, or those of one."""
        query = "" if namespace is None else "?namespace=" + urllib.parse.quote(namespace, safe="")
        return self._json("GET", "/stats" + query)

    def health(self) -> _Reply:
        """Return whether requests can be served, and the state of each engine; no error if not."""
        return self._json("GET", "/health")

    def metrics(self) -> _Text:
        """Return the counters in Prometheus' text format."""
        return self._text("/metrics")


class Client(_Calls[Json, str]):
    """A blocking client. Thread-safe.

    Args:
        url: base URL of the server.
        token: the server's index token; default: CONTEXTPILOT_INDEX_TOKEN.
        timeout_s: longest time for a call.

    Raises:
        ServerError: from every call that the server refuses (TokenError: because of its token) or
            does not answer (UnreachableError, NoIndexError).
    """

    def __init__(
        self, url: str = DEFAULT_URL, token: str | None = None, timeout_s: float = _TIMEOUT_S
    ) -> None:
        from contextpilot.http.blocking import BlockingHttp  # requests takes a while to import

        connecting = min(timeout_s, _CONNECT_TIMEOUT_S)
        self._http: BlockingHttp = BlockingHttp(_checked(url), _headers(token), connecting)
        self._timeout = timeout_s

    def close(self) -> None:
        """Close the connections; the next call opens a new one."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Json:
        return _decode(self._ask(method, path, body))

    def _text(self, path: str) -> str:
        return _decode_text(self._ask("GET", path, None))

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> _Told:
        url = f"{self._http.shown_url}{path.partition('?')[0]}"
        try:
            reply = self._http.call(method, path, _encode(body), self._timeout)
        except OSError as error:
            raise _unreachable(method, url, error) from error
        return _Told(method, url, *reply)


class AsyncClient(_Calls[Awaitable[Json], Awaitable[str]]):
    """An async client, for use within one event loop; arguments as for `Client`."""

    def __init__(
        self, url: str = DEFAULT_URL, token: str | None = None, timeout_s: float = _TIMEOUT_S
    ) -> None:
        from contextpilot.http.pooled import Upstream

        self._url = _checked(url)
        self._headers = [
            (name.lower().encode(), value.encode()) for name, value in _headers(token).items()
        ]
        self._upstream = Upstream(timeout_s, timeout_s)
        self._timeout = timeout_s

    async def close(self) -> None:
        """Close the connections."""
        self._upstream.close()
        await asyncio.sleep(0)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Json:
        return _decode(await self._ask(method, path, body))

    async def _text(self, path: str) -> str:
        return _decode_text(await self._ask("GET", path, None))

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> _Told:
        from contextpilot.http.pooled import UpstreamError

        url = f"{self._url}{path.partition('?')[0]}"
        try:
            status, told = await asyncio.wait_for(self._send(method, path, body), self._timeout)
        except (UpstreamError, OSError, asyncio.TimeoutError) as error:
            raise _unreachable(method, url, error) from error
        return _Told(method, url, status, told)

    async def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> tuple[int, bytes]:
        data = _encode(body) or b""
        async with self._upstream.open(method, self._url + path, self._headers, data) as answer:
            return answer.status, await answer.read()


class _Told(NamedTuple):
    """What a server answered to what."""

    method: str
    url: str
    status: int
    body: bytes


def _checked(url: str) -> str:
    try:
        return Address.of(url).url
    except ValueError:
        raise ValueError(f'url must be like "{DEFAULT_URL}", not {quoted(url)}') from None


def _headers(token: str | None) -> dict[str, str]:
    given = os.environ.get(_TOKEN, "") if token is None else token
    token = checked_key("token", given)
    headers = {"Content-Type": "application/json"}
    return headers | ({"Authorization": f"Bearer {token}"} if token else {})


def _encode(body: Mapping[str, Any] | None) -> bytes | None:
    """Return the body's JSON; what is None is left out, so that the server's default holds.

    Raises:
        TypeError: it holds what JSON has no form of; images have one.
    """
    if body is None:
        return None
    given = {name: value for name, value in body.items() if value is not None}
    return json.dumps(given, default=_image_as_json).encode()


def _image_as_json(value: Any) -> Any:
    from contextpilot.images.image import Image
    from contextpilot.images.json_images import as_json

    if not isinstance(value, Image):
        raise TypeError(
            f"{type(value).__name__} cannot be written as JSON: pass a string or a mapping"
        )
    return as_json(value)


def _decode(told: _Told) -> Json:
    """Return the JSON of an answer, or raise the error that it is."""
    content = _json_of(told.body)
    # an index server without an engine that is up says so with a 503, and all the rest
    is_health = told.url.endswith("/health") and isinstance(content, dict) and "engines" in content
    if told.status >= 300 and not (is_health and told.status == 503):
        raise _refusal(told, content)
    if not isinstance(content, dict):
        words = _shown(told.body)
        message = (
            f"{told.method} {told.url} answered {told.status}, but no JSON object "
            f"(is this contextpilot serve?): {words or 'nothing'}"
        )
        raise NoIndexError(message, told.status, url=told.url, words=words)
    return content


def _decode_text(told: _Told) -> str:
    if told.status >= 300:
        raise _refusal(told, _json_of(told.body))
    return told.body.decode("utf-8", "replace")


def _refusal(told: _Told, content: Any) -> ServerError:
    """Return the error that an answer is, in the server's own words."""
    words_of_ours, field = _words(content)
    words = words_of_ours or _shown(told.body)
    message = f"{told.method} {told.url} answered {told.status}: {words or 'nothing'}"
    named: dict[str, str] = {"url": told.url, "words": words}
    if told.status in (401, 403):
        return TokenError(f"{message} (set {_TOKEN}, or token=)", told.status, field, **named)
    if not words_of_ours or (told.status in (404, 405) and field is None):
        message += " (is this contextpilot serve, of this version?)"
        return NoIndexError(message, told.status, field, **named)
    return ServerError(message, told.status, field, **named)


def _words(content: Any) -> tuple[str, str | None]:
    """Return what an error's JSON says, and the field that it names: of ours, of other servers."""
    error = content.get("error", content.get("detail")) if isinstance(content, dict) else None
    if isinstance(error, str):
        return error[:_SHOWN_CHARS], None
    if not isinstance(error, dict) or "message" not in error:
        return "", None
    field = error.get("field")
    return str(error["message"])[:_SHOWN_CHARS], field if isinstance(field, str) else None


def _unreachable(method: str, url: str, error: Exception) -> UnreachableError:
    is_late = isinstance(error, (TimeoutError, asyncio.TimeoutError))
    told = str(error) or ("no answer in time" if is_late else type(error).__name__)
    return UnreachableError(f"{method} {url}: no answer: {told}", url=url)


def _json_of(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _shown(body: bytes) -> str:
    return body[:_SHOWN_CHARS].decode("utf-8", "replace").strip()

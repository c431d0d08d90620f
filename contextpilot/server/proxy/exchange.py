"""One request on its way through the proxy, and what goes to the engine for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Scope

from contextpilot.engines.base import EngineKind
from contextpilot.http.pooled import forwarded_headers
from contextpilot.plan.online import NO_HEAD, Head
from contextpilot.planning import Planned
from contextpilot.prompt.apis.shape import Shape
from contextpilot.prompt.conversation.pending import PendingRewrite
from contextpilot.server.observe.records import Record
from contextpilot.server.pool.expected_cache import Expectation
from contextpilot.server.proxy.controls import Controls, is_control
from contextpilot.server.proxy.relay import Delivery

_OWN_HEADERS = (b"host", b"content-length", b"accept-encoding", b"x-request-id")
_MAX_ID_CHARS = 128


@dataclass
class Exchange:
    """A request of the proxy, filled in step by step.

    Attributes:
        shape: the API spoken; None when nothing can be planned at this path.
        text, parsed: the body, decoded; empty when it is no JSON object.
        rewrite: what can be planned; None when there is nothing.
        head: the messages of a request without a rewrite, to find an engine that holds them.
        planned: the plan that was written.
        routed: a plan of the head alone, which changed nothing: it tells the index where it went.
        waited_s: seconds in the line of requests that wait for an engine, over all attempts.
        belief: what of the prompt a cloud upstream is believed to hold.
        lists: which lists were found in the messages, which were left as they are, and why.
        result: what the response header says.
    """

    scope: Scope
    body: bytes
    controls: Controls
    tenant: str
    delivery: Delivery
    shape: Shape | None = None
    text: str = ""
    parsed: dict[str, Any] = field(default_factory=dict)
    rewrite: PendingRewrite | None = None
    namespace: str = ""
    head: Head = NO_HEAD
    planned: Planned | None = None
    routed: Planned | None = None
    record: Record | None = None
    volatile: tuple[str, ...] = ()
    saved_chars: int = 0
    waited_s: float = 0.0
    belief: Expectation | None = None
    lists: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=lambda: {"status": "passed"})

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The client's headers."""
        headers: list[tuple[bytes, bytes]] = self.scope["headers"]
        return headers

    @property
    def api(self) -> str:
        """The API's name, for records and metrics."""
        return self.shape.name if self.shape is not None else "other"

    def result_header(self) -> bytes:
        """Return what the response header says, as JSON."""
        return json.dumps(self.result, separators=(",", ":")).encode()


def target_url(base: str, scope: Scope) -> str:
    """Return the engine's URL for a path of ours, query and escapes untouched."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    whole = path.split(b"?")[0] + (b"?" + query if query else b"")
    return base.rstrip("/") + whole.decode("latin-1")


def engine_headers(
    exchange: Exchange, kind: EngineKind
) -> tuple[list[tuple[bytes, bytes]], dict[bytes, bytes]]:
    """Return the headers for the engine, and the values to put back in its answer.

    The client's own request id stays a part of the one that we send.
    """
    given = dict(exchange.headers).get(b"x-request-id")
    headers = [
        (name, value)
        for name, value in forwarded_headers(exchange.headers)
        if name not in _OWN_HEADERS and not is_control(name)
    ]
    headers.append((b"accept-encoding", b"identity"))
    sent = given
    known = exchange.planned or exchange.routed
    if known is not None and kind.takes_id_header:
        own = known.request_id.encode()
        sent = own if given is None or len(given) > _MAX_ID_CHARS else given + b"-" + own
    if sent is not None:
        headers.append((b"x-request-id", sent))
    return headers, {sent: given} if given is not None and sent is not None else {}


def engine_members(
    exchange: Exchange, kind: EngineKind, slot: int | None, salt: str | None
) -> dict[str, Any]:
    """Return the body members that the engine needs and the client did not give."""
    if exchange.shape is None:
        return {}
    known = exchange.planned or exchange.routed
    wanted = kind.members(exchange.api, known.request_id if known is not None else None, slot)
    members = {name: value for name, value in wanted.items() if name not in exchange.parsed}
    return members if salt is None else {**members, kind.salt_member: salt}


def with_members(body: bytes, members: Mapping[str, Any]) -> bytes:
    """Return a JSON object's text with members put before its closing brace."""
    if not members:
        return body
    end = body.rindex(b"}")
    comma = b"" if body[:end].rstrip().endswith(b"{") else b","
    text = json.dumps(members, separators=(",", ":"))[1:-1].encode()
    return body[:end] + comma + text + body[end:]

"""The proxy: everything under /v1 goes to an engine, planned where blocks can be found.

What it does not understand it does not touch. If nothing is planned, the body goes on byte for
byte; if planning fails, the request goes unplanned, and the failure is counted.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Receive, Scope, Send

from contextpilot.plan.online import NO_HEAD
from contextpilot.planning import Planned
from contextpilot.server.body import BodyTooLargeError, ClientGoneError, read_body
from contextpilot.server.controls import ControlError, Controls, is_control, read_controls
from contextpilot.server.drafts import Draft, explicit_draft
from contextpilot.server.kinds import CLOUD, EngineKinds, Kind
from contextpilot.server.records import Record, without_text
from contextpilot.server.relay import Delivery, answer_headers, until_disconnect
from contextpilot.server.service import LeaseLike, Service
from contextpilot.server.tenants import namespace_of, tenant_of
from contextpilot.server.upstream import Upstream, UpstreamError, forwarded_headers
from contextpilot.server.wire.field import FieldError, parse_field
from contextpilot.server.wire.paths import error_shape, shape_of
from contextpilot.server.wire.shape import Shape
from contextpilot.server.wire.splice import splice

logger = logging.getLogger(__name__)

_OWN_HEADERS = (b"host", b"content-length", b"accept-encoding", b"x-request-id")
_JSON = (b"content-type", b"application/json")
_MAX_ID_CHARS = 128


@dataclass
class Exchange:
    """One request on its way through the proxy."""

    scope: Scope
    body: bytes
    controls: Controls
    tenant: str
    delivery: Delivery
    shape: Shape | None = None
    text: str = ""
    parsed: dict[str, Any] = field(default_factory=dict)
    draft: Draft | None = None
    namespace: str = ""
    planned: Planned | None = None
    record: Record | None = None
    result: dict[str, Any] = field(default_factory=lambda: {"status": "passed"})

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The client's headers."""
        headers: list[tuple[bytes, bytes]] = self.scope["headers"]
        return headers


class Proxy:
    """An ASGI application for all paths under /v1."""

    def __init__(self, service: Service, upstream: Upstream, kinds: EngineKinds) -> None:
        self._service = service
        self._settings = service.settings
        self._upstream = upstream
        self._kinds = kinds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; every error becomes one of the API that is spoken."""
        delivery = Delivery(send)
        shape = error_shape(scope["path"])
        try:
            exchange = await self._read(scope, receive, delivery)
            gone = await until_disconnect(receive, self._serve(exchange))
            if gone:
                logger.info("the client went before its answer ended")
        except ClientGoneError:
            return
        except BodyTooLargeError as error:
            await _refuse(delivery, shape, 413, str(error))
        except (ControlError, FieldError) as error:
            await _refuse(delivery, shape, 400, str(error), error.field)
        except UpstreamError as error:
            await _refuse(delivery, shape, error.status, str(error))

    # -- reading ---------------------------------------------------------------------------------

    async def _read(self, scope: Scope, receive: Receive, delivery: Delivery) -> Exchange:
        controls = read_controls(scope["headers"], self._settings)
        body = await read_body(receive, self._settings.max_body_bytes)
        tenant = tenant_of(self._settings, controls, scope["headers"])
        exchange = Exchange(scope, body, controls, tenant, delivery)
        exchange.shape = shape_of(scope["method"], scope["path"])
        if exchange.shape is not None and controls.enabled:
            self._draft(exchange, exchange.shape)
        return exchange

    def _draft(self, exchange: Exchange, shape: Shape) -> None:
        """Find the blocks of a request; a body that is no JSON object is the engine's to judge."""
        exchange.result = {"status": "unplanned", "reason": "no blocks"}
        try:
            exchange.text = exchange.body.decode()
            parsed = json.loads(exchange.text)
        except (ValueError, RecursionError):
            return
        if not isinstance(parsed, dict):
            return
        exchange.parsed = parsed
        explicit = parse_field(parsed)
        exchange.namespace = namespace_of(
            exchange.tenant, self._settings, exchange.controls, parsed, explicit
        )
        try:
            if explicit is not None:
                reader, defaults = self._service.reader, self._service.defaults
                exchange.draft = explicit_draft(shape, parsed, explicit, reader, defaults)
        except FieldError:
            raise
        except Exception as error:
            self._failed(exchange, error)

    def _failed(self, exchange: Exchange, error: Exception) -> None:
        """Count a failure of ours; the request goes on unplanned."""
        logger.warning("planning failed (%s): the request goes unplanned", type(error).__name__)
        exchange.draft = None
        exchange.planned = None
        exchange.result = {"status": "unplanned", "reason": "planning failed"}

    # -- serving ---------------------------------------------------------------------------------

    async def _serve(self, exchange: Exchange) -> None:
        draft = exchange.draft
        blocks, head = (draft.blocks, draft.head) if draft else ((), NO_HEAD)
        async with AsyncExitStack() as stack:
            lease = await stack.enter_async_context(
                self._service.pool.lease(exchange.namespace, blocks, head, None)
            )
            if lease.engine is None:
                raise UpstreamError(503, "no engine is configured: give --engine URL")
            body = exchange.body
            if draft is not None:
                body = self._plan(exchange, draft, lease)
            await self._forward(exchange, lease.engine.url, body)

    def _plan(self, exchange: Exchange, draft: Draft, lease: LeaseLike) -> bytes:
        """Plan a request and return the body that goes to the engine."""
        try:
            (planned,) = lease.plan(draft.job(exchange.namespace))
            written = draft.write(planned)
            body = splice(exchange.text, exchange.parsed, written).encode()
            number = lease.engine.number if lease.engine else None
            explanation = without_text(planned, draft.blocks)
        except Exception as error:
            self._failed(exchange, error)
            return exchange.body
        assert exchange.shape is not None
        exchange.planned = planned
        exchange.record = Record(exchange.shape.name, explanation, number)
        self._service.records.add(exchange.record)
        exchange.result = _told(planned, draft, exchange.record)
        return body

    async def _forward(self, exchange: Exchange, base: str, body: bytes) -> None:
        kind = await self._kinds.kind(base)
        headers, renamed = _upstream_headers(exchange, kind)
        body = _with_id(exchange, kind, body)
        delivery, scope = exchange.delivery, exchange.scope
        async with self._upstream.open(scope["method"], _target(base, scope), headers, body) as got:
            result = json.dumps(exchange.result, separators=(",", ":")).encode()
            await delivery.pass_on(got, answer_headers(got, result, renamed))


def _target(base: str, scope: Scope) -> str:
    """Return the engine's URL for a path of ours, query and escapes untouched."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    whole = path.split(b"?")[0] + (b"?" + query if query else b"")
    return base.rstrip("/") + whole.decode("latin-1")


def _upstream_headers(
    exchange: Exchange, kind: Kind
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
    if exchange.planned is not None and kind not in CLOUD:
        own = exchange.planned.request_id.encode()
        sent = own if given is None or len(given) > _MAX_ID_CHARS else given + b"-" + own
    if sent is not None:
        headers.append((b"x-request-id", sent))
    return headers, {sent: given} if given is not None and sent is not None else {}


def _with_id(exchange: Exchange, kind: Kind, body: bytes) -> bytes:
    """Add our request id to the body where the engine reads it there only."""
    if exchange.planned is None or kind != "sglang" or "rid" in exchange.parsed:
        return body
    return _added(body, {"rid": exchange.planned.request_id})


def _added(body: bytes, members: Mapping[str, Any]) -> bytes:
    """Return a JSON object's text with members put before its closing brace."""
    end = body.rindex(b"}")
    comma = b"" if body[:end].rstrip().endswith(b"{") else b","
    text = json.dumps(members, separators=(",", ":"))[1:-1].encode()
    return body[:end] + comma + text + body[end:]


def _told(planned: Planned, draft: Draft, record: Record) -> dict[str, Any]:
    """Return what the response header says of a planned request."""
    order = planned.plan.order
    return {
        "status": "planned",
        "request_id": planned.request_id,
        "blocks": len(order) + draft.num_hinted,
        "moved": sum(rank != position for position, rank in enumerate(order)),
        "hinted": draft.num_hinted,
        "live_blocks": planned.plan.num_live,
        "live_tokens": record.explanation.matched_tokens,
        "total_tokens": record.explanation.total_tokens,
    }


async def _refuse(
    delivery: Delivery, shape: Shape, status: int, message: str, field: str | None = None
) -> None:
    """Answer with an error of the API that is spoken, unless an answer has begun."""
    if not delivery.has_begun:
        body = json.dumps(shape.error(status, message, field)).encode()
        length = (b"content-length", str(len(body)).encode())
        await delivery.reply(status, [_JSON, length], body)

"""The proxy: everything under /v1 goes to an engine, planned where blocks can be found.

What it does not understand it does not touch. If nothing is planned, the body goes on byte for
byte; if planning fails, the request goes unplanned, and the failure is counted.
"""

from __future__ import annotations

import json
import logging
import time
from functools import partial
from typing import Any

from starlette.types import Receive, Scope, Send

from contextpilot.block import CHARS_PER_TOKEN
from contextpilot.engines.base import EngineKind
from contextpilot.explain import Explanation
from contextpilot.http.pooled import Upstream, UpstreamError
from contextpilot.http.response import Answer
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import Plan
from contextpilot.planning import Job, Planned
from contextpilot.prompt.apis.field import FIELD, FieldError
from contextpilot.prompt.apis.paths import error_shape
from contextpilot.prompt.apis.shape import Shape
from contextpilot.prompt.apis.splice import splice
from contextpilot.prompt.conversation.pending import PendingRewrite, WrittenBody
from contextpilot.prompt.conversation.written_orders import WrittenOrders
from contextpilot.prompt.messages import new_request_id
from contextpilot.server.observe.metrics import Metrics
from contextpilot.server.observe.records import Record, without_text
from contextpilot.server.offload import LARGE_BYTES, offload
from contextpilot.server.pool.engine_pool import EngineDownError
from contextpilot.server.pool.lease import Lease
from contextpilot.server.pool.member import Engine
from contextpilot.server.protocol import cut_short
from contextpilot.server.proxy.controls import ControlError
from contextpilot.server.proxy.exchange import (
    Exchange,
    engine_headers,
    engine_members,
    target_url,
    with_members,
)
from contextpilot.server.proxy.reading import RequestReader, give_up_planning
from contextpilot.server.proxy.relay import Delivery, answer_headers, until_disconnect
from contextpilot.server.proxy.tenants import salt_of
from contextpilot.server.proxy.unstable_heads import Heads, is_first_turn, reason
from contextpilot.server.request_body import BodyTooLargeError, ClientGoneError, read_body
from contextpilot.server.service import Service

logger = logging.getLogger(__name__)

_JSON = (b"content-type", b"application/json")


class Proxy:
    """An ASGI application for all paths under /v1."""

    def __init__(
        self,
        service: Service,
        upstream: Upstream,
        metrics: Metrics,
        orders: WrittenOrders,
    ) -> None:
        self._service = service
        self._settings = service.settings
        self._upstream = upstream
        self._metrics = metrics
        self._reader = RequestReader(service, metrics, orders)
        self._heads = Heads()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; every error becomes one of the API that is spoken."""
        delivery = Delivery(send, partial(cut_short, scope))
        shape = error_shape(scope["path"])
        self._metrics.in_progress += 1
        try:
            body = await read_body(receive, self._settings.max_body_bytes)
            is_large = len(body) >= LARGE_BYTES
            exchange = await offload(is_large, self._reader.read, scope, body, delivery)
            if await until_disconnect(receive, self._serve(exchange)):
                self._metrics.add("client_disconnects_total")
            self._finish(exchange)
        except ClientGoneError:
            self._metrics.add("client_disconnects_total")
        except BodyTooLargeError as error:
            await self._refuse(delivery, shape, 413, str(error))
        except (ControlError, FieldError) as error:
            await self._refuse(delivery, shape, 400, str(error), error.field)
        except UpstreamError as error:
            await self._refuse(delivery, shape, error.status, str(error))
        except Exception as error:  # the last line: nothing of ours may reach the server's log
            logger.error("a request failed: %s", type(error).__name__, exc_info=error)
            await self._refuse(delivery, shape, 500, "the proxy failed")
        finally:
            self._metrics.in_progress -= 1

    # -- serving ---------------------------------------------------------------------------------

    async def _serve(self, exchange: Exchange) -> None:
        """Send a request to an engine; while nothing was streamed, another may stand in."""
        tried: set[str] = set()
        failure = UpstreamError(503, "no engine is configured: give --engine URL")
        while True:
            try:
                async with self._lease(exchange, tried) as lease:
                    exchange.waited_s += lease.waited_s
                    failed = await self._try(exchange, lease, tried)
            except EngineDownError:
                raise failure from None
            if failed is None:
                return
            failure = failed

    async def _try(self, exchange: Exchange, lease: Lease, tried: set[str]) -> UpstreamError | None:
        """Send a request to the leased engine; return why that failed before an answer began."""
        if lease.engine is None:
            raise UpstreamError(503, "no engine is configured: give --engine URL")
        tried.add(lease.engine.name)
        try:
            await self._attempt(exchange, lease, lease.engine)
        except UpstreamError as error:
            self._metrics.add("upstream_errors_total", status=str(error.status))
            lease.failed()
            return error
        return None

    def _lease(self, exchange: Exchange, tried: set[str]) -> Any:
        rewrite = exchange.rewrite
        blocks, head, bounds = (
            (rewrite.blocks, rewrite.head, rewrite.bounds)
            if rewrite
            else ((), exchange.head, Bounds(enabled=False))
        )
        conversation = rewrite.conversation if rewrite else None
        return self._service.pool.lease(
            exchange.namespace, blocks, head, conversation, bounds=bounds, exclude=tried
        )

    async def _attempt(self, exchange: Exchange, lease: Lease, engine: Engine) -> None:
        kind = await self._service.pool.kind_of(engine)
        lease.wish = kind.slot_wish(exchange.api, exchange.parsed)
        salt = self._salt(exchange, kind)
        exchange.belief = None
        body = exchange.body
        is_left = exchange.rewrite is None and "left" in exchange.lists
        if is_left and exchange.record is None:
            self._note_unplanned(exchange, lease)
        if exchange.rewrite is not None:
            body = await self._plan(exchange, exchange.rewrite, lease, kind)
        elif exchange.head.keys:
            job = Job(exchange.namespace, [()], Bounds(enabled=False), exchange.head, [0])
            (exchange.routed,) = await lease.run(job)
            exchange.belief = lease.expectation(job, exchange.routed)
        if exchange.parsed:
            body = with_members(body, engine_members(exchange, kind, lease.id_slot, salt))
        headers, renamed = engine_headers(exchange, kind)
        method, url = exchange.scope["method"], target_url(engine.url, exchange.scope)
        async with self._upstream.open(method, url, headers, body) as answer:
            await self._pass_on(exchange, lease, answer, renamed)

    def _salt(self, exchange: Exchange, kind: EngineKind) -> str | None:
        """Return the tenant's cache salt, if salts are sent; refuse where none would be heeded."""
        if not self._settings.cache_salt or not kind.salt_member:
            return None
        refusal = kind.salt_refusal(exchange.api)
        if refusal:
            raise ControlError("cache_salt", refusal)
        return salt_of(exchange.tenant, self._settings, exchange.parsed.get("cache_salt"))

    async def _pass_on(
        self, exchange: Exchange, lease: Lease, answer: Answer, renamed: dict[bytes, bytes]
    ) -> None:
        delivery = exchange.delivery
        headers = answer_headers(answer, exchange.result_header(), renamed)
        read = partial(_was_read, exchange, lease)
        await delivery.pass_on(answer, headers, lease.first_byte, read)
        if delivery.has_broken:
            self._metrics.add("broken_answers_total")
            lease.has_failed = True
        elif delivery.status == 200:
            lease.answered(delivery.usage, delivery.generated_tokens)

    async def _plan(
        self, exchange: Exchange, rewrite: PendingRewrite, lease: Lease, kind: EngineKind
    ) -> bytes:
        """Plan a request and return the body that goes to the engine."""
        started = time.perf_counter()
        try:
            job = rewrite.job(exchange.namespace)
            (planned,) = await lease.run(job)
            exchange.belief = lease.expectation(job, planned)
            is_large = len(exchange.body) >= LARGE_BYTES
            written, body = await offload(is_large, _written, exchange, rewrite, planned, kind)
            explanation = without_text(planned, rewrite.blocks)
        except Exception as error:
            lease.retract()  # what is sent instead is not what was planned
            give_up_planning(exchange, self._metrics, error)
            exchange.belief = None
            exchange.body = _unplanned(exchange, rewrite)
            return exchange.body
        engine = lease.engine.name if lease.engine else None
        is_retry, exchange.planned = exchange.planned is not None, planned
        exchange.record = _record(exchange, explanation, engine)
        exchange.result = _told(planned, written, exchange)
        exchange.saved_chars = written.saved_chars
        if rewrite.blocks and not is_retry:
            exchange.result |= self._head_told(exchange, rewrite)
        self._service.records.add(exchange.record)
        self._metrics.observe("plan_seconds", time.perf_counter() - started)
        return body

    def _note_unplanned(self, exchange: Exchange, lease: Lease) -> None:
        """Remember a request whose lists all stay, so that it can be asked why."""
        engine = lease.engine.name if lease.engine else None
        explanation = Explanation(
            new_request_id(), reason=f"unplanned: {exchange.result['reason']}"
        )
        exchange.record = _record(exchange, explanation, engine)
        exchange.result["request_id"] = explanation.request_id
        self._service.records.add(exchange.record)

    def _head_told(self, exchange: Exchange, rewrite: PendingRewrite) -> dict[str, str]:
        """Return the reason why none of a caller's requests hits, if that is their beginning."""
        assert exchange.shape is not None
        assert exchange.record is not None
        turns = exchange.shape.turns(exchange.parsed)
        if not is_first_turn(turns):
            return {}
        recurs = exchange.record.explanation.reachable_tokens > 0
        in_a_row = self._heads.note(exchange.namespace, rewrite.head, recurs)
        told = reason(in_a_row, rewrite.has_question_before)
        return {"reason": told} if told is not None else {}

    # -- afterwards ------------------------------------------------------------------------------

    def _finish(self, exchange: Exchange) -> None:
        """Count an answered request, and note in its record how it went."""
        delivery, record, metrics = exchange.delivery, exchange.record, self._metrics
        usage = delivery.usage
        metrics.add("requests_total", api=exchange.api, outcome=exchange.result["status"])
        if delivery.first_byte_s is not None:
            metrics.observe("time_to_first_byte_seconds", delivery.first_byte_s)
            metrics.observe("wait_seconds", exchange.waited_s)
        if delivery.total_s is not None:
            metrics.observe("request_seconds", delivery.total_s)
        if usage.cached_tokens is not None:
            metrics.add("prefix_cache_queries_total", usage.prompt_tokens or 0)
            metrics.add("prefix_cache_hits_total", usage.cached_tokens)
        if record is None:
            return
        record.status = delivery.status
        record.prompt_tokens, record.cached_tokens = usage
        record.waited_s = exchange.waited_s
        record.first_byte_s, record.total_s = delivery.first_byte_s, delivery.total_s
        if exchange.rewrite is None:
            return
        if exchange.belief is not None and usage.cached_tokens is not None:
            exchange.belief.compare(usage.cached_tokens)
        told = record.explanation
        metrics.add("planned_tokens_total", told.total_tokens)
        metrics.add("expected_hits_tokens_total", told.matched_tokens)
        metrics.add("reachable_tokens_total", told.reachable_tokens)
        metrics.add("dedup_tokens_saved_total", exchange.saved_chars // CHARS_PER_TOKEN)

    async def _refuse(
        self,
        delivery: Delivery,
        shape: Shape,
        status: int,
        message: str,
        field: str | None = None,
    ) -> None:
        """Answer with an error of the API that is spoken, unless an answer has begun."""
        self._metrics.add("requests_total", api=shape.name, outcome="refused")
        if not delivery.has_begun:
            body = json.dumps(shape.error(status, message, field)).encode()
            length = (b"content-length", str(len(body)).encode())
            await delivery.reply(status, [_JSON, length], body)


def _record(exchange: Exchange, explanation: Explanation, engine: str | None) -> Record:
    """Return what is remembered of a request, from its plan on."""
    lists = exchange.lists
    found, left = lists.get("found", ()), lists.get("left", ())
    return Record(exchange.api, explanation, engine, exchange.volatile, found=found, left=left)


def _was_read(exchange: Exchange, lease: Lease) -> None:
    """Note that the engine has read a prompt: only now its plan is believed."""
    lease.confirm()
    if exchange.belief is not None:
        exchange.belief.confirm()


def _written(
    exchange: Exchange, rewrite: PendingRewrite, planned: Planned, kind: EngineKind
) -> tuple[WrittenBody, bytes]:
    """Return a planned request, and its body as it goes to the engine."""
    written = rewrite.write(planned)
    body = written.body
    if kind.has_cache_marks:
        body = kind.with_cache_marks(body, exchange.namespace, rewrite.head, written.cuts)
    return written, splice(exchange.text, exchange.parsed, body).encode()


def _unplanned(exchange: Exchange, rewrite: PendingRewrite) -> bytes:
    """Return the body of a request whose planning failed; blocks handed over keep their order."""
    if FIELD not in exchange.parsed:
        return exchange.body
    order = tuple(range(len(rewrite.blocks)))
    kept = rewrite.write(Planned(0, Plan(order, 0), Explanation("")))
    return splice(exchange.text, exchange.parsed, kept.body).encode()


def _told(planned: Planned, written: WrittenBody, exchange: Exchange) -> dict[str, Any]:
    """Return what the response header says of a planned request."""
    order = planned.plan.order
    told: dict[str, Any] = {
        "status": "planned",
        "request_id": planned.request_id,
        "blocks": len(order),
        "moved": sum(rank != position for position, rank in enumerate(order)),
        "hinted": written.num_hinted,
        "saved_chars": written.saved_chars,
        "live_blocks": planned.plan.num_live,
        "live_tokens": planned.explanation.matched_tokens,
        "total_tokens": planned.explanation.total_tokens,
    }
    told |= exchange.lists
    return told | ({"volatile": exchange.volatile} if exchange.volatile else {})

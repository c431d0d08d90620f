"""The proxy: everything under /v1 goes to an engine, planned where blocks can be found.

A request's way, in the order of this file: it is read (`incoming`), waits for an engine, is planned
and written for that engine (`outgoing`), is sent, its answer is passed on (`relay`), and what came
of it is counted. What the proxy does not understand it does not touch. If nothing is planned, the
body goes on byte for byte; if planning fails, the request goes unplanned, and that is counted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import replace
from functools import partial

from starlette.types import Receive, Scope, Send

from contextpilot.explain import Explanation
from contextpilot.http.pooled import Upstream, UpstreamError
from contextpilot.plan.bounds import Bounds
from contextpilot.planning import Job
from contextpilot.prompt.apis.field import FieldError
from contextpilot.prompt.apis.paths import error_shape
from contextpilot.prompt.conversation.pending import PendingRewrite
from contextpilot.prompt.conversation.written_orders import WrittenOrders
from contextpilot.prompt.messages import new_request_id
from contextpilot.server.observe.metrics import Metrics
from contextpilot.server.observe.records import without_text
from contextpilot.server.offload import LateError, offload
from contextpilot.server.pool.engine_pool import EngineDownError
from contextpilot.server.pool.kv_follower import SentRequest
from contextpilot.server.pool.lease import Lease
from contextpilot.server.protocol import cut_short
from contextpilot.server.proxy.controls import ControlError, refuse_stray_body
from contextpilot.server.proxy.incoming import (
    NO_TIME,
    PLANNING_FAILED,
    Incoming,
    RequestReader,
    note_failure,
)
from contextpilot.server.proxy.loops import LOOP_STATUS, LoopError, Passage
from contextpilot.server.proxy.outcome import (
    Answered,
    Observer,
    planned_outcome,
    record_of,
    unplanned_code,
    unplanned_outcome,
)
from contextpilot.server.proxy.outgoing import (
    Outgoing,
    Target,
    engine_headers,
    engine_members,
    keys_of,
    marked_for,
    target_url,
    with_members,
    without_plan,
    written_for,
)
from contextpilot.server.proxy.recurring import RecurringPrefixes
from contextpilot.server.proxy.refuser import Refuser
from contextpilot.server.proxy.relay import Delivery, answer_headers, until_disconnect
from contextpilot.server.proxy.tenants import salt_of
from contextpilot.server.proxy.timely import TimelyReader
from contextpilot.server.proxy.unstable_heads import Heads
from contextpilot.server.request_body import (
    Bodies,
    BodyTooLargeError,
    ClientGoneError,
    NoRoomError,
    TooManyRequestsError,
)
from contextpilot.server.service import Service

logger = logging.getLogger(__name__)

_NO_MOVES = Bounds(enabled=False)
_MAX_SENT = 2
"""Engines that get a request before it is given up: it may be what brings them down."""
_NO_ENGINE = "no engine is configured: give --engine URL"


class Proxy:
    """An ASGI application for all paths under /v1."""

    def __init__(
        self,
        service: Service,
        upstream: Upstream,
        metrics: Metrics,
        orders: WrittenOrders,
        bodies: Bodies,
        observers: Sequence[Observer] = (),
    ) -> None:
        self._observers = observers
        self._service = service
        self._bodies = bodies
        self._settings = service.settings
        self._upstream = upstream
        self._metrics = metrics
        reader = RequestReader(service, metrics, orders)
        self._reader = TimelyReader(reader, service.settings.max_plan_wait_s)
        self._heads = Heads()
        self._recurring = RecurringPrefixes()
        self._refuse = Refuser(metrics)
        self._passage = Passage()
        self._num_taken = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; every error becomes one of the API that is spoken."""
        delivery = Delivery(send, partial(cut_short, scope))
        shape = error_shape(scope["path"])
        self._metrics.in_progress += 1
        try:
            self._passage.check(scope["headers"])
            self._refuse_beyond(self._settings.max_requests)
            async with self._bodies.read(receive) as body:
                refuse_stray_body(scope["method"], body)
                with self._place():
                    gone = await until_disconnect(receive, self._answered(scope, body, delivery))
                if gone:
                    self._metrics.add("client_disconnects_total")
        except ClientGoneError:
            self._metrics.add("client_disconnects_total")
        except BodyTooLargeError as error:
            await self._refuse(delivery, shape, 413, str(error), "too-large")
        except TooManyRequestsError as error:
            await self._refuse(delivery, shape, 429, str(error), "no-room")
        except LoopError as error:
            await self._refuse(delivery, shape, LOOP_STATUS, str(error), "goes-round")
        except NoRoomError as error:
            await self._refuse(delivery, shape, 503, str(error), "no-room")
        except (ControlError, FieldError) as error:
            await self._refuse(delivery, shape, 400, str(error), "bad-request", error.field)
        except UpstreamError as error:
            has_engine = any(engine.is_real for engine in self._service.pool.engines)
            code = "engine-failed" if has_engine else "no-engine"
            await self._refuse(delivery, shape, error.status, str(error), code)
        except Exception as error:  # the last line: nothing of ours may reach the server's log
            logger.error("a request failed: %s", type(error).__name__, exc_info=error)
            await self._refuse(delivery, shape, 500, "the proxy failed", "proxy-failed")
        finally:
            self._metrics.in_progress -= 1

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Hold a place until the block ends: who has not sent its request takes none."""
        self._refuse_beyond(self._settings.max_requests)
        self._num_taken += 1
        try:
            yield
        finally:
            self._num_taken -= 1

    def _refuse_beyond(self, most: int) -> None:
        if self._num_taken >= most:
            text = f"the server already has max_requests ({most}) requests: retry later"
            raise TooManyRequestsError(text)

    async def _answered(self, scope: Scope, body: bytes, delivery: Delivery) -> None:
        await self._serve(await self._reader.read(scope, body), delivery)

    # -- an engine -------------------------------------------------------------------------------

    async def _serve(self, request: Incoming, delivery: Delivery) -> None:
        """Send a request to an engine; while nothing was streamed, another may stand in."""
        outgoing = Outgoing(request.body, unplanned_outcome(request))
        failure: UpstreamError | None = UpstreamError(503, _NO_ENGINE)
        tried: set[str] = set()
        waited_s = 0.0
        num_sent = 0
        try:
            while failure is not None:
                async with self._lease(request, tried) as lease:
                    waited_s += lease.waited_s
                    target = await self._target(request, lease, tried)
                    outgoing = await self._planned(request, outgoing, lease, target)
                    failure = await self._sent(request, outgoing, lease, target, delivery)
                if failure is not None and failure.was_sent:
                    num_sent += 1
                    if num_sent >= _MAX_SENT or not request.may_repeat:
                        raise failure
        except EngineDownError:
            self._tell(request, outgoing, delivery)
            raise failure or UpstreamError(503, _NO_ENGINE) from None
        except UpstreamError:
            self._tell(request, outgoing, delivery)
            raise
        except asyncio.CancelledError:  # the client went
            self._count(request, outgoing, waited_s, delivery)
            raise
        self._count(request, outgoing, waited_s, delivery)

    def _lease(self, request: Incoming, tried: set[str]) -> AbstractAsyncContextManager[Lease]:
        """Wait for the engine that fits a request best, among those that were not tried."""
        pool, rewrite = self._service.pool, request.rewrite
        if rewrite is None:
            return pool.lease(request.namespace, (), request.head, bounds=_NO_MOVES, exclude=tried)
        return pool.lease(
            request.namespace,
            rewrite.blocks,
            rewrite.head,
            rewrite.conversation,
            bounds=rewrite.bounds,
            exclude=tried,
        )

    async def _target(self, request: Incoming, lease: Lease, tried: set[str]) -> Target:
        """Return what is to be known of the leased engine; from now on it counts as tried."""
        if lease.engine is None:
            raise UpstreamError(503, _NO_ENGINE)
        tried.add(lease.engine.name)
        kind = await self._service.pool.kind_of(lease.engine)
        lease.wish = kind.slot_wish(request.api, request.parsed)
        left = [one for one in self._service.pool.engines if one.up and one.name not in tried]
        may_change, long = request.may_repeat and bool(left), self._settings.long_retention
        target = Target(kind, lease.engine.url, None, may_change, long)
        if not self._settings.cache_salt or not kind.salt_member:
            return target
        refusal = request.why_unsalted(kind)
        if refusal:
            raise ControlError("cache_salt", refusal)
        salt = salt_of(request.tenant, self._settings, request.salted.get(kind.salt_member))
        return replace(target, salt=salt)

    # -- the plan --------------------------------------------------------------------------------

    async def _planned(
        self, request: Incoming, before: Outgoing, lease: Lease, target: Target
    ) -> Outgoing:
        """Return what goes to the leased engine.

        Args:
            before: what went to the engine before, which failed; at first, the request as it came.
        """
        if before.has_failed:
            return before
        if request.is_late:
            return without_plan(request, before, NO_TIME)
        if request.rewrite is not None:
            return await self._rewritten(request, request.rewrite, before, lease, target)
        outgoing = replace(before, body=request.body, expectation=None, recurring=None)
        if request.lists.left and before.record is None:
            outgoing = self._noted(request, outgoing, lease)
        outgoing = marked_for(target, request, outgoing, self._recurring)
        if not request.head.keys:
            return outgoing
        # nothing is changed: the index is told where the prompt went
        job = Job(request.namespace, [()], _NO_MOVES, request.head, [0])
        try:
            (routed,) = await lease.run(job, self._settings.max_plan_wait_s)
        except LateError:
            return outgoing
        expectation = lease.expectation(job, routed)
        return replace(outgoing, request_id=routed.request_id, expectation=expectation)

    async def _rewritten(
        self,
        request: Incoming,
        rewrite: PendingRewrite,
        before: Outgoing,
        lease: Lease,
        target: Target,
    ) -> Outgoing:
        """Plan a request and write it; a failure of ours sends it as it came."""
        started = time.perf_counter()
        try:
            job = rewrite.job(request.namespace)
            (planned,) = await lease.run(job, self._settings.max_plan_wait_s)
            expectation = lease.expectation(job, planned)
            written, body = await offload(
                request.is_large, written_for, request, rewrite, planned, target
            )
            explanation = without_text(planned, rewrite.blocks)
        except LateError:
            return without_plan(request, before, NO_TIME)
        except Exception as error:
            lease.retract()  # what is sent instead is not what was planned
            note_failure(self._metrics, error)
            return without_plan(request, before, PLANNING_FAILED)
        record = record_of(request, explanation, lease.engine.name if lease.engine else None)
        outcome = planned_outcome(request, planned, written)
        if rewrite.blocks and before.written is None:
            recurs = explanation.reachable_tokens > 0
            outcome |= self._heads.told(request.namespace, rewrite, request.turns, recurs)
        self._service.records.add(record)
        self._metrics.observe("plan_seconds", time.perf_counter() - started)
        return Outgoing(body, outcome, planned.request_id, written, record, expectation)

    def _noted(self, request: Incoming, outgoing: Outgoing, lease: Lease) -> Outgoing:
        """Remember a request whose lists all stay, so that it can be asked why."""
        why = f"unplanned: {outgoing.outcome['reason']}"
        explanation = Explanation(new_request_id(), reason=why)
        record = record_of(request, explanation, lease.engine.name if lease.engine else None)
        self._service.records.add(record)
        outcome = {**outgoing.outcome, "request_id": explanation.request_id}
        return replace(outgoing, outcome=outcome, record=record)

    # -- the answer ------------------------------------------------------------------------------

    async def _sent(
        self,
        request: Incoming,
        outgoing: Outgoing,
        lease: Lease,
        target: Target,
        delivery: Delivery,
    ) -> UpstreamError | None:
        """Send a request and pass its answer on; return why that failed before one began."""
        members = engine_members(request, target, outgoing.request_id, lease.id_slot)
        headers, renamed = engine_headers(request, target.kind, outgoing.request_id, self._settings)
        if target.kind.takes_id_header:  # a cloud leads nowhere back
            headers.append(self._passage.header)
        method, url = request.scope["method"], target_url(target.url, request.scope)
        body = with_members(outgoing.body, members)
        if outgoing.request_id is not None:
            lease.sent(SentRequest(outgoing.request_id, request.api, body, keys_of(headers)))
        kept_s = target.kind.retention_s(body)
        read = partial(self._was_read, outgoing, lease, kept_s)
        try:
            async with self._upstream.open(
                method, url, headers, body, may_repeat=request.may_repeat
            ) as answer:
                if answer.status in (503, LOOP_STATUS) and target.has_stand_in:
                    raise UpstreamError(answer.status, "the engine is not available")
                shown = answer_headers(answer, outgoing.outcome_header(), renamed)
                await delivery.pass_on(answer, shown, lease.first_byte, read)
        except UpstreamError as error:
            self._metrics.add("upstream_errors_total", status=str(error.status))
            lease.failed()
            return error
        if delivery.has_broken:
            self._metrics.add("broken_answers_total")
            lease.has_failed = True
        elif delivery.status == 200:
            lease.answered(delivery.usage, delivery.generated_tokens)
            if (expected := outgoing.expectation) is not None:
                expected.compare(delivery.usage, delivery.written, kept_s)
        return None

    def _was_read(self, outgoing: Outgoing, lease: Lease, kept_s: float) -> None:
        """Note that the engine has read a prompt: only now its plan is believed."""
        lease.confirm()
        if outgoing.expectation is not None:
            outgoing.expectation.confirm(kept_s)
        if outgoing.recurring is not None:
            self._recurring.note(outgoing.recurring)

    # -- afterwards ------------------------------------------------------------------------------

    def _count(
        self, request: Incoming, outgoing: Outgoing, waited_s: float, delivery: Delivery
    ) -> None:
        """Count an answered request, and note in its record how it went."""
        metrics, usage, record = self._metrics, delivery.usage, outgoing.record
        outcome = outgoing.outcome["status"]
        metrics.add("requests_total", api=request.api, outcome=outcome)
        if outcome != "planned":
            metrics.add("unplanned_total", reason=unplanned_code(request, outgoing))
        if delivery.first_byte_s is not None:
            metrics.observe("time_to_first_byte_seconds", delivery.first_byte_s)
            metrics.observe("wait_seconds", waited_s)
        if delivery.total_s is not None:
            metrics.observe("request_seconds", delivery.total_s)
        if usage.cached_tokens is not None:
            metrics.add("prefix_cache_queries_total", usage.prompt_tokens or 0)
            metrics.add("prefix_cache_hits_total", usage.cached_tokens)
        self._tell(request, outgoing, delivery)
        if record is None:
            return
        record.status = delivery.status
        record.prompt_tokens, record.cached_tokens = usage
        record.waited_s = waited_s
        record.first_byte_s, record.total_s = delivery.first_byte_s, delivery.total_s
        if outgoing.written is None:
            return
        told = record.explanation
        metrics.add("planned_tokens_total", told.total_tokens)
        metrics.add("expected_hits_tokens_total", told.matched_tokens)
        metrics.add("reachable_tokens_total", told.reachable_tokens)
        metrics.add("dedup_tokens_saved_total", outgoing.written.saved_tokens)

    def _tell(self, request: Incoming, outgoing: Outgoing, delivery: Delivery) -> None:
        """Tell the observers of a request that has ended."""
        told = outgoing.body, outgoing.outcome, delivery.status, delivery.usage
        for observe in self._observers if request.parsed else ():
            observe(Answered(request, *told))

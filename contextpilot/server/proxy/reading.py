"""Reads requests of the proxy: what they ask for, whose they are, where their blocks are."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from starlette.types import Scope

from contextpilot.prompt.apis.field import ContextField, FieldError, parse_field
from contextpilot.prompt.apis.paths import shape_of
from contextpilot.prompt.apis.shape import Shape
from contextpilot.prompt.conversation.block_lists import BlockLists
from contextpilot.prompt.conversation.given_blocks import given_blocks_rewrite
from contextpilot.prompt.conversation.prepare import Prepared, Search, prepare_rewrite
from contextpilot.prompt.conversation.repeats import messages_head
from contextpilot.prompt.conversation.written_orders import WrittenOrders
from contextpilot.prompt.messages import Message
from contextpilot.server.observe.metrics import Metrics
from contextpilot.server.offload import LARGE_BYTES, parse_slowly
from contextpilot.server.proxy.controls import read_controls
from contextpilot.server.proxy.exchange import Exchange
from contextpilot.server.proxy.relay import Delivery
from contextpilot.server.proxy.tenants import namespace_of, session_of, tenant_of
from contextpilot.server.proxy.volatile import volatile_kinds
from contextpilot.server.service import Service

logger = logging.getLogger(__name__)

_HEAD_ROLES = ("system", "developer")
_MAX_TOLD = 4
"""Lists that a header tells of: the last ones."""


class RequestReader:
    """Turns requests into exchanges, with a rewrite where something can be planned. Thread-safe."""

    def __init__(self, service: Service, metrics: Metrics, orders: WrittenOrders) -> None:
        self._service = service
        self._settings = service.settings
        self._metrics = metrics
        self._orders = orders
        self._routes = len(service.settings.engine) > 1

    def read(self, scope: Scope, body: bytes, delivery: Delivery) -> Exchange:
        """Return a request, read as far as it can be.

        Raises:
            ControlError: a header of ours asks for what there is not.
            FieldError: the field `contextpilot` is malformed.
        """
        controls = read_controls(scope["headers"], self._settings)
        tenant = tenant_of(self._settings, controls, scope["headers"])
        exchange = Exchange(scope, body, controls, tenant, delivery)
        exchange.shape = shape_of(scope["method"], scope["path"])
        if exchange.shape is None:
            return exchange
        _parse(exchange)
        if controls.enabled:
            exchange.result = {"status": "unplanned", "reason": "no blocks"}
            if exchange.parsed:
                self._look(exchange, exchange.shape)
        return exchange

    def _look(self, exchange: Exchange, shape: Shape) -> None:
        """Look for what can be planned; a failure of ours leaves the request as it is."""
        explicit = parse_field(exchange.parsed)
        started = time.perf_counter()
        try:
            exchange.namespace = namespace_of(
                exchange.tenant, self._settings, exchange.controls, exchange.parsed, explicit
            )
            exchange.volatile = volatile_kinds(_head_messages(shape, exchange.parsed))
            exchange.rewrite, lists = self._prepare(exchange, shape, explicit)
            exchange.lists = lists_told(lists)
            if exchange.rewrite is None and self._routes:
                parsed = exchange.parsed
                exchange.head = messages_head([*shape.unsearched(parsed), *shape.searched(parsed)])
        except FieldError:
            raise
        except Exception as error:
            give_up_planning(exchange, self._metrics, error)
        self._metrics.observe("plan_seconds", time.perf_counter() - started)
        for kind in exchange.volatile:
            self._metrics.add("volatile_heads_total", kind=kind)
        if exchange.rewrite is None:
            exchange.result |= exchange.lists
        if exchange.volatile:
            exchange.result["volatile"] = exchange.volatile

    def _prepare(self, exchange: Exchange, shape: Shape, explicit: ContextField | None) -> Prepared:
        reader, options = self._service.reader, self._service.defaults
        controls, body = exchange.controls, exchange.parsed
        if explicit is not None:
            return Prepared(given_blocks_rewrite(shape, body, explicit, reader, options))
        session = session_of(self._settings, controls, exchange.headers, body)
        search = Search(controls.mode, controls.scope)
        orders, namespace = self._orders, exchange.namespace
        return prepare_rewrite(shape, body, reader, options, orders, namespace, search, session)


def lists_told(lists: BlockLists) -> dict[str, Any]:
    """Return what a header tells of lists of blocks: the last that may move, and that stay."""
    told: dict[str, Any] = {}
    if lists.found:
        told["found"] = [
            {"form": one.form, "blocks": one.blocks, "why": one.why}
            for one in lists.found[-_MAX_TOLD:]
        ]
    if lists.left:
        told["left"] = [one._asdict() for one in lists.left[-_MAX_TOLD:]]
    return told


def give_up_planning(exchange: Exchange, metrics: Metrics, error: Exception) -> None:
    """Count a failure of ours; the request goes on unplanned."""
    logger.warning("planning failed (%s): the request goes unplanned", type(error).__name__)
    metrics.add("plan_failures_total")
    exchange.rewrite = None
    exchange.planned = None
    exchange.result = {"status": "unplanned", "reason": "planning failed"}


def _parse(exchange: Exchange) -> None:
    """Decode a body; one that is no JSON object is the engine's to judge."""
    try:
        text = exchange.body.decode()
        parsed = parse_slowly(text) if len(text) >= LARGE_BYTES else json.loads(text)
    except (ValueError, RecursionError):
        return
    if isinstance(parsed, dict):
        exchange.text, exchange.parsed = text, parsed


def _head_messages(shape: Shape, parsed: dict[str, Any]) -> list[Message]:
    """Return the system prompt: what every prompt of this caller should begin with alike."""
    first = shape.turns(parsed)[:1]
    return shape.opening(parsed) + [m for m in first if m.get("role") in _HEAD_ROLES]

"""A request of the proxy as the client sent it: what it asks for, whose it is, what it holds."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.types import Scope

from contextpilot.engines.base import EngineKind
from contextpilot.plan.online import NO_HEAD, Head
from contextpilot.prompt.apis.field import ContextField, FieldError, parse_field
from contextpilot.prompt.apis.paths import changes_nothing, has_prompt, shape_of
from contextpilot.prompt.apis.shape import Shape
from contextpilot.prompt.conversation.block_lists import NO_LISTS, BlockLists
from contextpilot.prompt.conversation.given_blocks import given_blocks_rewrite
from contextpilot.prompt.conversation.pending import PendingRewrite
from contextpilot.prompt.conversation.prepare import Prepared, RewritePreparer, Search
from contextpilot.prompt.conversation.repeats import messages_head
from contextpilot.prompt.conversation.written_orders import WrittenOrders
from contextpilot.prompt.messages import Message
from contextpilot.server.observe.metrics import Metrics
from contextpilot.server.offload import LARGE_BYTES, parse_slowly
from contextpilot.server.plain_path import plain_path
from contextpilot.server.proxy.controls import Controls, read_controls
from contextpilot.server.proxy.tenants import namespace_of, session_of, tenant_of
from contextpilot.server.proxy.volatile import volatile_kinds
from contextpilot.server.request_body import BodyTooLargeError, check_parts
from contextpilot.server.service import Service
from contextpilot.whose import reading_for

logger = logging.getLogger(__name__)

PLANNING_FAILED: dict[str, Any] = {"status": "unplanned", "reason": "planning failed"}
NO_TIME: dict[str, Any] = {"status": "unplanned", "reason": "no time to plan it"}
_HANDED_OVER = b'"contextpilot"'
_HEAD_ROLES = ("system", "developer")


@dataclass(frozen=True)
class Incoming:
    """One request, read as far as it can be; nothing was planned yet.

    Attributes:
        shape: the API spoken; None when nothing can be planned at this path.
        text, parsed: the body, decoded; empty when it is no JSON object.
        salted: what a salt can be written into: `parsed`, or a prompt that is never planned.
        rewrite: what can be planned; None when there is nothing.
        lists: the lists of blocks in its messages.
        head: the messages of a request without a rewrite, where it matters who holds them.
        volatile: kinds of text at the head of the prompt that change with every request.
        outcome: what the response header says while nothing is planned.
        is_late: it waited too long to be looked through, and goes on as it came.
    """

    scope: Scope
    body: bytes
    controls: Controls
    tenant: str
    shape: Shape | None = None
    text: str = ""
    parsed: Mapping[str, Any] = field(default_factory=dict)
    salted: Mapping[str, Any] = field(default_factory=dict)
    namespace: str = ""
    rewrite: PendingRewrite | None = None
    lists: BlockLists = NO_LISTS
    head: Head = NO_HEAD
    volatile: tuple[str, ...] = ()
    outcome: Mapping[str, Any] = field(default_factory=lambda: {"status": "passed"})
    is_late: bool = False

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The client's headers."""
        headers: list[tuple[bytes, bytes]] = self.scope["headers"]
        return headers

    @property
    def turns(self) -> list[Message]:
        """Its messages; none where nothing can be planned."""
        return self.shape.turns(self.parsed) if self.shape is not None else []

    @property
    def may_repeat(self) -> bool:
        """Whether an engine may get it twice: nothing is changed by it."""
        return changes_nothing(self.scope["method"], self.scope["path"])

    @property
    def api(self) -> str:
        """The API's name, for records and metrics."""
        return self.shape.name if self.shape is not None else "other"

    def why_unsalted(self, kind: EngineKind) -> str:
        """Return why an engine would read a prompt without a salt of ours; "" if it would not.

        Engines read more than we do: JSON in UTF-16, compressed bodies, paths with double slashes.
        """
        method, path = self.scope["method"], self.scope["path"]
        if not has_prompt(method, plain_path(path)):
            return ""
        if refusal := kind.salt_refusal(self.api):
            return refusal
        if not has_prompt(method, path):
            return "cannot be added at this path: spell the path as the API does"
        encodings = [value for name, value in self.headers if name == b"content-encoding"]
        if not self.salted or any(value.strip().lower() != b"identity" for value in encodings):
            return "cannot be added: the body must be a JSON object in UTF-8, not compressed"
        return ""

    @property
    def is_large(self) -> bool:
        """Whether a thread should look through it."""
        return len(self.body) >= LARGE_BYTES


class RequestReader:
    """Reads requests, and looks for what can be rewritten in them. Thread-safe."""

    def __init__(self, service: Service, metrics: Metrics, orders: WrittenOrders) -> None:
        self._service = service
        self._settings = service.settings
        self._metrics = metrics
        self._preparer = RewritePreparer(service.reader, orders)

    def read(self, scope: Scope, body: bytes, is_late: bool = False) -> Incoming:
        """Return a request, read as far as it can be.

        Args:
            is_late: read only what it cannot go on without: its blocks stay where they are.

        Raises:
            ControlError: a header of ours asks for what there is not.
            FieldError: the field `contextpilot` is malformed.
        """
        controls = read_controls(scope["headers"], self._settings)
        tenant = tenant_of(self._settings, controls, scope["headers"])
        shape = shape_of(scope["method"], scope["path"])
        request = Incoming(scope, body, controls, tenant, shape)
        if shape is None:
            is_salted = self._settings.cache_salt and has_prompt(scope["method"], scope["path"])
            return replace(request, salted=_parsed(body)[1]) if is_salted else request
        text, parsed = _parsed(body)
        request = replace(request, text=text, parsed=parsed, salted=parsed)
        if not controls.enabled:
            return request
        if is_late:
            return self._barely_read(replace(request, outcome=NO_TIME, is_late=True), shape)
        request = replace(request, outcome={"status": "unplanned", "reason": "no blocks"})
        return self._looked_through(request, shape, parsed) if parsed else request

    def _barely_read(self, request: Incoming, shape: Shape) -> Incoming:
        """Return a request with the blocks that were handed over: no engine knows their field."""
        handed_over = parse_field(request.parsed)
        if handed_over is None:
            return request
        reader, options = self._service.reader, self._service.defaults
        try:
            rewrite = given_blocks_rewrite(shape, request.parsed, handed_over, reader, options)
        except FieldError:
            raise
        except Exception as error:
            note_failure(self._metrics, error)
            return request
        return replace(request, rewrite=rewrite)

    def _looked_through(self, request: Incoming, shape: Shape, parsed: dict[str, Any]) -> Incoming:
        """Return a request with what can be rewritten; a failure of ours leaves it as it is."""
        handed_over = parse_field(parsed)
        started = time.perf_counter()
        try:
            namespace = namespace_of(
                request.tenant, self._settings, request.controls, parsed, handed_over
            )
            volatile = volatile_kinds(_head_messages(shape, parsed))
            request = replace(request, namespace=namespace, volatile=volatile)
            rewrite, lists = self._prepared(request, shape, handed_over)
            request = replace(request, rewrite=rewrite, lists=lists)
            if rewrite is None and self._is_followed():
                head = messages_head([*shape.unsearched(parsed), *shape.searched(parsed)])
                request = replace(request, head=head)
        except FieldError:
            raise
        except Exception as error:
            note_failure(self._metrics, error)
            request = replace(request, rewrite=None, outcome=PLANNING_FAILED)
        self._metrics.observe("plan_seconds", time.perf_counter() - started)
        for kind in request.volatile:
            self._metrics.add("volatile_heads_total", kind=kind)
        return request

    def _is_followed(self) -> bool:
        """Return whether it matters where a request without blocks goes, or when."""
        engines = self._service.pool.engines
        return len(engines) > 1 or any(one.sync_by_age is not None for one in engines)

    def _prepared(
        self, request: Incoming, shape: Shape, handed_over: ContextField | None
    ) -> Prepared:
        reader, options = self._service.reader, self._service.defaults
        controls, body, namespace = request.controls, request.parsed, request.namespace
        if handed_over is not None:
            with reading_for(namespace):
                return Prepared(given_blocks_rewrite(shape, body, handed_over, reader, options))
        session = session_of(self._settings, controls, request.headers, body)
        search = Search(controls.mode, controls.scope)
        return self._preparer.prepare(shape, body, options, namespace, search, session)


def note_failure(metrics: Metrics, error: Exception) -> None:
    """Count a failure of ours; the request goes on unplanned."""
    logger.warning("planning failed (%s): the request is forwarded unplanned", type(error).__name__)
    metrics.add("plan_failures_total")


def _parsed(body: bytes) -> tuple[str, dict[str, Any]]:
    """Return a body decoded, and what it says; one that is no JSON object is the engine's.

    Raises:
        BodyTooLargeError: it has too many parts to be read, and blocks handed over, which no engine
            knows.
    """
    try:
        check_parts(body)
        text = body.decode()
        parsed = parse_slowly(text) if len(text) >= LARGE_BYTES else json.loads(text)
    except BodyTooLargeError:
        if _HANDED_OVER in body:
            raise
        return "", {}
    except (ValueError, RecursionError):
        return "", {}
    return (text, parsed) if isinstance(parsed, dict) else ("", {})


def _head_messages(shape: Shape, parsed: Mapping[str, Any]) -> list[Message]:
    """Return the system prompt: what every prompt of this caller should begin with alike."""
    first = shape.turns(parsed)[:1]
    return shape.opening(parsed) + [m for m in first if m.get("role") in _HEAD_ROLES]

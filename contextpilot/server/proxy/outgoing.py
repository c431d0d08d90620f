"""What goes to an engine for a request, and how it is written."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from starlette.types import Scope

from contextpilot.engines.base import EngineKind
from contextpilot.explain import Explanation
from contextpilot.http.pooled import forwarded_headers
from contextpilot.http.response import Headers
from contextpilot.plan.online import Plan
from contextpilot.planning import Planned
from contextpilot.prompt.apis.field import FIELD
from contextpilot.prompt.apis.splice import splice
from contextpilot.prompt.conversation.pending import PendingRewrite, WrittenBody
from contextpilot.server.observe.records import Record
from contextpilot.server.pool.expected_cache import Expectation
from contextpilot.server.proxy.controls import is_control
from contextpilot.server.proxy.incoming import Incoming
from contextpilot.server.proxy.recurring import Recurring, RecurringPrefixes
from contextpilot.server.settings import Settings

_OWN_HEADERS = (b"host", b"content-length", b"accept-encoding", b"x-request-id", b"expect")
_READ_AS_FRAMING = (b"content_length", b"transfer_encoding")
"""Gateways that know no difference between the two signs take them for those with a dash."""
_KEY_HEADERS = (b"authorization", b"x-api-key")
_MAX_ID_CHARS = 128


@dataclass(frozen=True)
class Outgoing:
    """A request as it goes to one engine, but for what that engine alone takes.

    Attributes:
        outcome: what the response header says.
        request_id: the id under which index and engine know it; None for neither.
        written: the rewrite that was planned; None when the body is the client's.
        expectation: what of the prompt an upstream without events should hold.
        has_failed: planning failed once, or came too late, and is not tried again.
        recurring: of a request without a plan, what a cloud was sent before.
    """

    body: bytes
    outcome: Mapping[str, Any]
    request_id: str | None = None
    written: WrittenBody | None = None
    record: Record | None = None
    expectation: Expectation | None = None
    has_failed: bool = False
    recurring: Recurring | None = None

    def outcome_header(self) -> bytes:
        """Return what the response header says, as JSON."""
        return json.dumps(self.outcome, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Target:
    """The engine that a request goes to.

    Attributes:
        salt: divides its cache by tenants, if salts are sent.
        has_stand_in: another could take it, too, where this one says that it is not available.
        long_retention: a cloud is asked to keep prefixes longer.
    """

    kind: EngineKind
    url: str
    salt: str | None = None
    has_stand_in: bool = False
    long_retention: bool = False


def written_for(
    request: Incoming, rewrite: PendingRewrite, planned: Planned, target: Target
) -> tuple[WrittenBody, bytes]:
    """Return a planned request, and its body as it goes to an engine."""
    written = rewrite.write(planned)
    body = written.body
    if target.kind.has_cache_marks:
        head, cuts, long = rewrite.head, written.cuts, target.long_retention
        body = target.kind.with_cache_marks(body, request.namespace, head, cuts, long=long)
    return written, splice(request.text, request.parsed, body).encode()


def without_plan(request: Incoming, before: Outgoing, outcome: Mapping[str, Any]) -> Outgoing:
    """Return a request that is not planned after all; blocks handed over keep their order."""
    rewrite, body = request.rewrite, request.body
    if rewrite is not None and FIELD in request.parsed:
        order = tuple(range(len(rewrite.blocks)))
        kept = rewrite.write(Planned(0, Plan(order, 0), Explanation("")))
        body = splice(request.text, request.parsed, kept.body).encode()
    return Outgoing(body, outcome, record=before.record, has_failed=True)


def marked_for(
    target: Target, request: Incoming, outgoing: Outgoing, prefixes: RecurringPrefixes
) -> Outgoing:
    """Return a request without a plan, marked where a cloud's cache may find it again."""
    shape, parsed, kind = request.shape, request.parsed, target.kind
    if shape is None or not parsed or not request.controls.enabled or not kind.has_cache_marks:
        return outgoing
    seen, given = prefixes.find(request.namespace, shape, parsed), dict(parsed)
    long = target.long_retention
    marked = kind.with_recurring_marks(given, seen.opening, seen.turns, long=long)
    if marked is given:
        return replace(outgoing, recurring=seen)
    return replace(outgoing, body=splice(request.text, parsed, marked).encode(), recurring=seen)


def target_url(base: str, scope: Scope) -> str:
    """Return the engine's URL for a path of ours, query and escapes untouched."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    whole = path.split(b"?")[0] + (b"?" + query if query else b"")
    return base.rstrip("/") + whole.decode("latin-1")


def engine_headers(
    request: Incoming, kind: EngineKind, request_id: str | None, settings: Settings
) -> tuple[list[tuple[bytes, bytes]], dict[bytes, bytes]]:
    """Return the headers for the engine, and the values to put back in its answer.

    The client's own request id stays a part of the one that we send.
    """
    given = dict(request.headers).get(b"x-request-id")
    headers = [
        (name, value)
        for name, value in forwarded_headers(request.headers)
        if name not in (*_OWN_HEADERS, *_READ_AS_FRAMING) and not is_control(name)
    ]
    headers.append((b"accept-encoding", b"identity"))
    sent = given
    if request_id is not None and kind.takes_id_header:
        own = request_id.encode()
        sent = own if given is None or len(given) > _MAX_ID_CHARS else given + b"-" + own
    if sent is not None:
        headers.append((b"x-request-id", sent))
    headers = _with_upstream_key(headers, kind, settings)
    return headers, {sent: given} if given is not None and sent is not None else {}


def _with_upstream_key(
    headers: list[tuple[bytes, bytes]], kind: EngineKind, settings: Settings
) -> list[tuple[bytes, bytes]]:
    """Return headers with the server's own key, where the client sent the index token as its key.

    A key of the client's own passes through; whoever sends none gets none.
    """
    if not settings.upstream_key:
        return headers
    token = settings.index_token.encode()
    others = [(name, value) for name, value in headers if not _is_token(name, value, token)]
    if len(others) == len(headers):
        return headers
    name, before = kind.key_header
    return [*others, (name, before + settings.upstream_key.encode())]


def _is_token(name: bytes, value: bytes, token: bytes) -> bool:
    key = value[len(b"Bearer ") :] if value[:7].lower() == b"bearer " else value
    return name in _KEY_HEADERS and hmac.compare_digest(key.strip(), token)


def keys_of(headers: Headers) -> tuple[tuple[bytes, bytes], ...]:
    """Return those of a request's headers that an engine may ask for wherever it is asked."""
    return tuple((name, value) for name, value in headers if name in _KEY_HEADERS)


def engine_members(
    request: Incoming, target: Target, request_id: str | None, slot: int | None
) -> dict[str, Any]:
    """Return the body members that the engine needs and the client did not give."""
    salt = {target.kind.salt_member: target.salt} if target.salt and request.salted else {}
    if request.shape is None or not request.parsed:
        return salt
    wanted = target.kind.members(request.api, request_id, slot)
    members = {name: value for name, value in wanted.items() if name not in request.parsed}
    return {**members, **salt}


def with_members(body: bytes, members: Mapping[str, Any]) -> bytes:
    """Return a JSON object's text with members put before its closing brace."""
    if not members:
        return body
    end = body.rindex(b"}")
    comma = b"" if body[:end].rstrip().endswith(b"{") else b","
    text = json.dumps(members, separators=(",", ":"))[1:-1].encode()
    return body[:end] + comma + text + body[end:]

"""Who a request belongs to. Nothing learnt from one tenant is used for another.

A namespace name is built from length-prefixed parts, so that no two tenants can be made to look
alike and an absent part differs from an empty one. API keys enter as hashes.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Any

from contextpilot.engines.registry import cache_members
from contextpilot.prompt.apis.field import ContextField
from contextpilot.server.proxy.controls import Controls
from contextpilot.server.settings import Settings

_KEY_HEADERS = (b"authorization", b"x-api-key", b"api-key")
_SESSION_HEADERS = (b"x-claude-code-session-id", b"x-session-id", b"session-id", b"session_id")
_UNGUESSABLE = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?=[a-z]*([0-9][a-z]*){3})[0-9a-z]{20,}",
    re.IGNORECASE,
)
"""A UUID, or as many letters and digits: other names could be guessed, or be given to everyone."""
_MAX_SESSION_CHARS = 512
_MAX_PART_CHARS = 512
"""Of a name; of longer ones the hash is kept in their place, as names outlive their requests."""


def tenant_of(
    settings: Settings, controls: Controls, headers: Sequence[tuple[bytes, bytes]]
) -> str:
    """Return the tenant's opaque name: by API key, by the header of a trusted gateway, or none."""
    if settings.tenants == "none":
        return _join("none")
    if settings.tenants == "header":
        return _join("header", controls.namespace)
    keys = [value for name, value in headers if name in _KEY_HEADERS]
    digest = hashlib.sha256(b"\0".join(keys)).hexdigest() if keys else None
    return _join("key", digest)


def namespace_of(
    tenant: str,
    settings: Settings,
    controls: Controls,
    body: Mapping[str, Any],
    field: ContextField | None,
) -> str:
    """Return the namespace of a request: tenant, the names it narrows it by, model and salts."""
    narrowed = controls.namespace if settings.tenants != "header" else None
    own = field.namespace if field is not None else None
    return _join(tenant, narrowed, own, *_engine_parts(body))


def session_of(
    settings: Settings,
    controls: Controls,
    headers: Sequence[tuple[bytes, bytes]],
    body: Mapping[str, Any],
) -> str | None:
    """Return the opaque name of the session that a client tells, whose API key may change.

    None where it tells none, or where something else than the key tells tenants apart.
    """
    if settings.tenants != "key":
        return None
    given = dict(headers)
    told: list[Any] = [given[name].decode("latin-1") for name in _SESSION_HEADERS if name in given]
    told.append(body.get("prompt_cache_key"))
    names = [name for name in told if isinstance(name, str) and _is_secret(name)]
    if not names:
        return None
    digest = hashlib.sha256(names[0].encode("utf-8", "replace")).hexdigest()
    return _join("session", digest, controls.namespace, *_engine_parts(body))


def _is_secret(name: str) -> bool:
    return len(name) <= _MAX_SESSION_CHARS and _UNGUESSABLE.search(name) is not None


def salt_of(tenant: str, settings: Settings, given: object) -> str:
    """Return the cache salt of a tenant. The caller's own salt divides its part of the cache only.

    A caller who names another tenant's salt so gains nothing.
    """
    whole = _join(tenant, None if given is None else repr(given)).encode("utf-8", "replace")
    return hmac.new(settings.salt_secret.encode(), whole, "sha256").hexdigest()[:32]


def _engine_parts(body: Mapping[str, Any]) -> list[str | None]:
    """Return what already divides an engine's cache; which engine it will be is not known yet."""
    parts = [body.get(name) for name in ("model", *cache_members())]
    return [None if part is None else repr(part) for part in parts]


def _join(*parts: str | None) -> str:
    return "".join(map(_part, parts))


def _part(part: str | None) -> str:
    if part is None:
        return "-"
    if len(part) > _MAX_PART_CHARS:
        return "#" + hashlib.sha256(part.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{len(part)}:{part}"

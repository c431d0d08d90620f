"""Tells requests that somebody else's web page may have made a browser send.

A page may let the browser post to any address, as long as it calls the body plain text or a form;
and a page whose own name is made to lead to this machine ("DNS rebinding") is, to the browser, at
home here and reads every answer. The first is told by `Origin`, the second by `Host`.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from functools import lru_cache

ANY = "*"
_LOCAL_ENDINGS = (".localhost", ".local", ".internal", ".lan", ".home.arpa", ".svc")
"""Names that nobody can register for the public."""
_UNASKED_TYPES = frozenset(
    {"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"}
)
"""Content types that browsers post to foreign places without asking them first."""
_MAX_CHARS = 300
"""A name has at most 253 (RFC 1035); longer ones are not remembered either."""
_READS = frozenset({"GET", "HEAD", "OPTIONS"})


class AllowedCallers:
    """By which names this server may be called.

    Addresses, names without a dot, names that exist within a network only and this machine's own
    always pass: no stranger can let one of them lead here.

    Args:
        names: others, as "llm.example.com", or ".example.com" with all below it; "*" allows any.
        fix: what an error tells to do about a name that is missing.
    """

    def __init__(self, names: Iterable[str], fix: str) -> None:
        self._names = frozenset(name.lower().rstrip(".") for name in names)
        self._fix = fix
        self._is_allowed = lru_cache(1024)(self._look_up)

    def refusal(
        self, method: str, host: str, origin: str | None, content_type: str | None
    ) -> str | None:
        """Return why a request is refused, from its headers; None when it may come in."""
        if len(host) > _MAX_CHARS or not self._is_allowed(host):
            shown = name_in(host)[:100]
            return f"this server does not go by the name {shown!r} (Host): {self._fix}"
        if origin is None or method in _READS or origin.partition("://")[2] == host:
            return None
        kind = (content_type or "").partition(";")[0].strip().lower()
        if kind in _UNASKED_TYPES and not self._is_allowed_origin(origin):
            return (
                "a web page from another origin may not send this (Origin): send it with "
                f"Content-Type: application/json, or {self._fix}"
            )
        return None

    def _is_allowed_origin(self, origin: str) -> bool:
        return ANY in self._names or self._is_named(name_in(origin.partition("://")[2]))

    def _look_up(self, host: str) -> bool:
        name = name_in(host)
        if ANY in self._names or "." not in name or _is_address(name):
            return True
        return name.endswith(_LOCAL_ENDINGS) or self._is_named(name) or name in _own_names()

    def _is_named(self, name: str) -> bool:
        return name in self._names or any(
            name.endswith(own) for own in self._names if own.startswith(".")
        )


def name_in(host: str) -> str:
    """Return a Host header's name: lower case, without port, brackets, and a dot at its end."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return ":" in name
    return True


@lru_cache(1)
def _own_names() -> frozenset[str]:
    """Return this machine's name as it is set: to ask the network for another could take long."""
    return frozenset({socket.gethostname().lower()})

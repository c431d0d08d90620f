"""The request headers X-ContextPilot-*: what a client asks of the proxy beside its API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from contextpilot.server.settings import MODES, SCOPES, Settings

PREFIX = b"x-contextpilot-"
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
_SWITCH = {
    **dict.fromkeys(("true", "1", "on", "yes"), True),
    **dict.fromkeys(("false", "0", "off", "no"), False),
}
_OLDER = {
    "xml_tag": "xml",
    "json_results": "json",
    "markdown_header": "markdown",
    "tool_results": "tool",
}
"""Values of the reference implementation's headers, and ours."""


class ControlError(ValueError):
    """A header asks for what there is not; `field` is its name."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field} {message}")
        self.field = field


class Controls(NamedTuple):
    """What the headers ask for, defaults filled in."""

    enabled: bool
    mode: str
    scope: str
    namespace: str | None


def read_controls(headers: Sequence[tuple[bytes, bytes]], settings: Settings) -> Controls:
    """Return what the headers ask for; raise ControlError when they cannot be followed."""
    given: dict[str, str] = {}
    for header, value in headers:
        if header.startswith(PREFIX):
            name = header[len(PREFIX) :].decode("latin-1")
            if name in given:  # a gateway's and a client's: who is to be believed?
                raise ControlError(_header(name), "must be given once")
            given[name] = value.decode("latin-1").strip()
    enabled = given.get("enabled", "true").lower()
    mode = _today(given.get("mode", settings.mode))
    scope = _today(given.get("scope", settings.scope))
    _one_of("enabled", enabled, _SWITCH)
    _one_of("mode", mode, MODES)
    _one_of("scope", scope, SCOPES)
    return Controls(_SWITCH[enabled], mode, scope, given.get("namespace") or None)


def is_control(name: bytes) -> bool:
    """Return whether a header is ours, and so goes no further."""
    return name.startswith(PREFIX)


def _today(value: str) -> str:
    return _OLDER.get(value.lower(), value.lower())


def _one_of(name: str, value: str, known: Sequence[str] | dict[str, bool]) -> None:
    if value not in known:
        raise ControlError(_header(name), f"must be one of {', '.join(known)}")


def _header(name: str) -> str:
    return f"X-ContextPilot-{name.capitalize()}"


def refuse_stray_body(method: str, body: bytes) -> None:
    """Refuse what an engine that reads no body here would take for the next client's request.

    Raises:
        ControlError: a request that has no body by its method has one.
    """
    if body and method in _BODILESS:
        raise ControlError("body", f"must be empty in a {method} request")

"""Tells requests that were here before: an engine's address may lead back to this server.

Its own names are many (other addresses of the machine, a gateway's, another ContextPilot's that has
this one for an engine), so requests carry who passed them on, in the header that is made for it.
"""

from __future__ import annotations

import secrets

from contextpilot.http.response import Headers

LOOP_STATUS = 508
_VIA = b"via"


class LoopError(Exception):
    """This server sent a request to itself."""


class Passage:
    """One server's mark in the header `Via` (RFC 9110) of what it sends to engines."""

    def __init__(self) -> None:
        self._name = b"contextpilot-" + secrets.token_hex(8).encode()

    @property
    def header(self) -> tuple[bytes, bytes]:
        """The mark, which stands behind those of others."""
        return _VIA, b"1.1 " + self._name

    def check(self, headers: Headers) -> None:
        """Raise LoopError for a request that has the mark."""
        if any(name == _VIA and self._name in value for name, value in headers):
            raise LoopError(
                "an engine's address leads back to this server: give --engine, or POST /engines, "
                "the address of an engine"
            )

"""Small HTTP exchanges that cannot hold the doctor up."""

from __future__ import annotations

import contextlib
import json
from typing import Any, NamedTuple

from contextpilot.http.address import Address

TIMEOUT_S = 2.0


class UnreachableError(OSError):
    """Nobody answers in HTTP; the text says how it failed."""


class JsonReply(NamedTuple):
    """Status and decoded JSON; `content` is None for what is no JSON."""

    status: int
    content: Any


class Place(NamedTuple):
    """An http(s) address to ask."""

    address: Address
    token: str = ""

    @classmethod
    def at(cls, url: str, token: str = "") -> Place:
        """Take an address apart. Raises ValueError, which tells nothing of it: it may hold keys."""
        return cls(Address.of(url), token.strip())

    @property
    def shown(self) -> str:
        """The address without user, password and query."""
        hidden = "://***@" if self.address.has_user else "://"
        return self.address.url.replace("://", hidden, 1)

    def ask(self, path: str, body: Any = None, timeout: float = TIMEOUT_S) -> JsonReply:
        """GET a path, or POST a body to it as JSON; all of it takes `timeout` seconds at most.

        Raises UnreachableError.
        """
        from contextpilot.http.blocking import BlockingHttp  # requests takes a while to import

        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None if body is None else json.dumps(body).encode()
        method = "GET" if body is None else "POST"
        try:
            with contextlib.closing(BlockingHttp(self.address.url, headers, timeout)) as http:
                reply = http.call(method, path, data, timeout)
        except TimeoutError:
            raise UnreachableError(f"no answer within {timeout:g} s") from None
        except OSError as error:
            raise UnreachableError(str(error)) from None
        return JsonReply(reply.status, _decoded(reply.body))


def _decoded(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None

"""The HTTP client towards engines: keeps connections, retries what was never read, adds nothing."""

from __future__ import annotations

import asyncio
import logging
import urllib.parse
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from contextpilot.http import KEEP_ALIVE_S
from contextpilot.http.address import PORTS, Address, basic_key
from contextpilot.http.connecting import Connector, UpstreamError
from contextpilot.http.connection import Connection
from contextpilot.http.response import Answer, BrokenAnswerError, Headers

logger = logging.getLogger(__name__)

__all__ = ["HOP_BY_HOP", "Upstream", "UpstreamError", "forwarded_headers"]

HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)


class Upstream:
    """Keeps connections to engines. For use within one event loop."""

    def __init__(self, connect_timeout_s: float, read_timeout_s: float) -> None:
        self._connector = Connector(connect_timeout_s, read_timeout_s)
        self._idle: defaultdict[Address, deque[Connection]] = defaultdict(deque)
        self._astray: set[Address] = set()
        """Servers that sent what nobody asked for: another's answer may follow, so none is kept."""

    def close(self) -> None:
        """Close all idle connections."""
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()

    @asynccontextmanager
    async def open(
        self, method: str, url: str, headers: Headers, body: bytes, *, may_repeat: bool = True
    ) -> AsyncIterator[Answer]:
        """Send a request; the answer's head is there, its body follows. Leaving early cancels it.

        Host and Content-Length are written here, and Authorization where the URL holds a user and
        the caller gives none; the other headers are the caller's.

        Args:
            may_repeat: whether it does no harm twice: a kept connection may have been closed by
                the engine before it read the request, or after.

        Raises:
            UpstreamError: no answer came.
        """
        place, target = _split(url)
        way = self._connector.way(place)
        length = [(b"content-length", b"%d" % len(body))] if body or method == "POST" else []
        full = [(b"host", place.place.encode()), *headers, *_authorization(url, headers), *length]
        if way.prefix:
            target, full = way.prefix + target, [*full, *way.headers]
        send = self._send if may_repeat else self._send_once
        connection, answer = await send(place, method, target, full, body)
        try:
            yield answer
        finally:
            if connection.release():
                self._keep(place, connection)
            elif connection.has_surplus:
                self._let_go(place, connection)

    async def _send(
        self, place: Address, method: str, target: str, headers: Headers, body: bytes
    ) -> tuple[Connection, Answer]:
        kept = self._take(place)
        if kept is not None:
            try:
                return kept, await _exchange(kept, method, target, headers, body)
            except BrokenAnswerError as error:
                if error.has_begun:
                    raise UpstreamError(502, str(error), was_sent=True) from None
        return await self._send_once(place, method, target, headers, body)

    async def _send_once(
        self, place: Address, method: str, target: str, headers: Headers, body: bytes
    ) -> tuple[Connection, Answer]:
        connection = await self._connector.connect(place)
        try:
            return connection, await _exchange(connection, method, target, headers, body)
        except BrokenAnswerError as error:
            raise UpstreamError(502, str(error), was_sent=True) from None

    def _take(self, place: Address) -> Connection | None:
        """Return the connection that was idle for the shortest time, if one still can be used."""
        idle = self._idle[place]
        oldest = asyncio.get_running_loop().time() - KEEP_ALIVE_S
        while idle:
            connection = idle.pop()
            if connection.can_carry_since(oldest) and not connection.has_unread():
                return connection
            self._let_go(place, connection)
        return None

    def _let_go(self, place: Address, connection: Connection) -> None:
        connection.close()
        if connection.has_surplus and place not in self._astray:
            self._astray.add(place)
            text = "%s sent more than its answers: each request now gets its own connection there"
            logger.warning(text, place.url)

    def _keep(self, place: Address, connection: Connection) -> None:
        if place in self._astray:
            connection.close()
            return
        idle = self._idle[place]
        idle.append(connection)
        oldest = connection.idle_since - KEEP_ALIVE_S
        while not idle[0].can_carry_since(oldest):
            self._let_go(place, idle.popleft())


async def _exchange(
    connection: Connection, method: str, target: str, headers: Headers, body: bytes
) -> Answer:
    """Send a request over a connection, which is closed where no answer comes."""
    verb, path = method.encode("latin-1"), target.encode("latin-1")
    try:
        return await connection.request(verb, path, headers, body)
    except TimeoutError as error:
        raise UpstreamError(504, str(error), was_sent=True) from None
    except BaseException:
        connection.close()
        raise


def _split(url: str) -> tuple[Address, str]:
    """Return where a URL leads, and what is asked for there: its characters as they are."""
    parts = urllib.parse.urlsplit(url)
    place = Address(parts.scheme, parts.hostname or "", parts.port or PORTS[parts.scheme])
    return place, url[url.index(parts.netloc) + len(parts.netloc) :] or "/"


def _authorization(url: str, headers: Headers) -> Headers:
    """Return the header that a URL's user and password become, where the caller gives none."""
    key = basic_key(url)
    if key is None or any(name.lower() == b"authorization" for name, _ in headers):
        return ()
    return ((b"authorization", key),)


def forwarded_headers(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return the headers that go on: all but those of one connection."""
    named = {
        token.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for token in value.split(b",")
    }
    dropped = HOP_BY_HOP | named
    return [(name, value) for name, value in headers if name.lower() not in dropped]

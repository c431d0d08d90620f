"""The HTTP client towards engines: keeps connections, retries what was never read, adds nothing."""

from __future__ import annotations

import asyncio
import ssl
import urllib.parse
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from contextpilot.http.connection import Connection
from contextpilot.http.response import Answer, BrokenAnswerError, Headers

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
_KEEP_ALIVE_S = 4.0
"""Less than the five seconds after which uvicorn, and so the engines, close idle connections."""
_PORTS = {"http": 80, "https": 443}


class UpstreamError(Exception):
    """An engine did not answer.

    Attributes:
        status: what a gateway replies then.
        cause: why no connection came about, where the system said so.
    """

    def __init__(self, status: int, message: str, cause: OSError | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.cause = cause


class _Place(NamedTuple):
    """Where an engine listens."""

    scheme: str
    host: str
    port: int

    @property
    def name(self) -> bytes:
        """The value of the header Host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}").encode()


class Upstream:
    """Keeps connections to engines. For use within one event loop."""

    def __init__(self, connect_timeout_s: float, read_timeout_s: float) -> None:
        self._connect_timeout = connect_timeout_s or None
        self._read_timeout = read_timeout_s
        self._idle: defaultdict[_Place, deque[Connection]] = defaultdict(deque)
        self._tls: ssl.SSLContext | None = None

    def close(self) -> None:
        """Close all idle connections."""
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()

    @asynccontextmanager
    async def open(
        self, method: str, url: str, headers: Headers, body: bytes
    ) -> AsyncIterator[Answer]:
        """Send a request; the answer's head is there, its body follows. Leaving early cancels it.

        Host and Content-Length are written here; the other headers are the caller's.

        Raises:
            UpstreamError: no answer came.
        """
        parts = urllib.parse.urlsplit(url)
        place = _Place(parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme])
        target = url[url.index(parts.netloc) + len(parts.netloc) :] or "/"
        length = [(b"content-length", b"%d" % len(body))] if body or method == "POST" else []
        full = [(b"host", place.name), *headers, *length]
        connection, answer = await self._send(place, method, target, full, body)
        try:
            yield answer
        finally:
            if connection.release():
                self._keep(place, connection)

    async def _send(
        self, place: _Place, method: str, target: str, headers: Headers, body: bytes
    ) -> tuple[Connection, Answer]:
        verb, path = method.encode("latin-1"), target.encode("latin-1")
        while True:
            connection = self._take(place) or await self._connect(place)
            try:
                return connection, await connection.request(verb, path, headers, body)
            except BrokenAnswerError as error:
                connection.close()
                # a kept connection may have been closed meanwhile: then nobody read the request
                if error.has_begun or connection.num_requests <= 1:
                    raise UpstreamError(502, str(error)) from None
            except TimeoutError as error:
                raise UpstreamError(504, str(error)) from None
            except BaseException:
                connection.close()
                raise

    async def _connect(self, place: _Place) -> Connection:
        loop = asyncio.get_running_loop()
        if place.scheme == "https" and self._tls is None:
            self._tls = ssl.create_default_context()
        tls = self._tls if place.scheme == "https" else None
        connecting = loop.create_connection(
            lambda: Connection(loop, self._read_timeout), place.host, place.port, ssl=tls
        )
        try:
            return (await asyncio.wait_for(connecting, self._connect_timeout))[1]
        except asyncio.TimeoutError:
            raise UpstreamError(504, "the engine cannot be reached in time") from None
        except OSError as error:
            raise UpstreamError(502, "the engine cannot be reached", error) from None
        except ValueError:
            raise UpstreamError(502, "the engine cannot be reached") from None

    def _take(self, place: _Place) -> Connection | None:
        """Return the connection that was idle for the shortest time, if one still can be used."""
        idle = self._idle[place]
        oldest = asyncio.get_running_loop().time() - _KEEP_ALIVE_S
        while idle:
            connection = idle.pop()
            if connection.is_idle and connection.idle_since > oldest:
                return connection
            connection.close()
        return None

    def _keep(self, place: _Place, connection: Connection) -> None:
        idle = self._idle[place]
        idle.append(connection)
        while idle and not idle[0].is_idle:
            idle.popleft()


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

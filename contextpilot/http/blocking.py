"""Blocking HTTP/1.1 to one server: kept connections, one deadline a call, one safe repeat."""

from __future__ import annotations

import http.client
import io
import os
import selectors
import socket
import threading
import time
import urllib.parse
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

_KEEP_ALIVE_S = 4.0
"""Less than the five seconds after which uvicorn closes idle connections."""
_MAX_IDLE = 16
_MAX_REPLY_BYTES = 64 << 20


class Reply(NamedTuple):
    """A whole answer."""

    status: int
    body: bytes


class _NeverReadError(ConnectionError):
    """The server closed a kept connection before a byte of its answer."""


class BlockingHttp:
    """Calls to one server. Thread-safe; each thread that calls has a connection of its own.

    Args:
        url: base URL; user and password in it are ignored.
        headers: sent with every request.
        connect_timeout_s: longest time that connecting to one address may take.

    Raises:
        ValueError: `url` is no http(s) address.
    """

    def __init__(self, url: str, headers: Mapping[str, str], connect_timeout_s: float) -> None:
        self._parts = _split(url)
        self._headers = dict(headers)
        self._connect_timeout = connect_timeout_s
        self._idle: list[tuple[float, http.client.HTTPConnection]] = []
        self._lock = threading.Lock()
        self._pid = os.getpid()

    @property
    def shown_url(self) -> str:
        """The base URL as it may be shown: without user, password and query."""
        name, port = self._parts.hostname or "", self._parts.port
        host = f"[{name}]" if ":" in name else name
        return f"{self._parts.scheme}://{host}{f':{port}' if port else ''}{self._parts.path}"

    def call(self, method: str, path: str, body: bytes | None, timeout_s: float) -> Reply:
        """Send a request and return its answer, both within `timeout_s`.

        A request is sent again only when a kept connection was closed before any byte of the
        answer: a server closes idle connections, and then did not read it. After a time-out it
        never is.

        Raises:
            OSError: no whole answer came; TimeoutError when it did not come in time.
        """
        deadline = time.monotonic() + timeout_s
        connection = self._take()
        if connection is not None:
            try:
                return self._exchange(connection, method, path, body, deadline)
            except _NeverReadError:
                self.close()  # the others were closed likewise
        return self._exchange(self._connect(deadline), method, path, body, deadline)

    def close(self) -> None:
        """Close the idle connections; the next call opens one again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        deadline: float,
    ) -> Reply:
        source = _Source(connection.sock, deadline)
        connection.response_class = partial(_response, source)  # type: ignore[assignment]
        is_kept = False
        try:
            connection.sock.settimeout(_left(deadline))
            connection.request(method, self._parts.path + path, body, self._headers)
            answer = connection.getresponse()
            reply = Reply(answer.status, _read(answer))
            is_kept = connection.sock is not None
        except TimeoutError:
            raise TimeoutError("no answer in time") from None
        except ConnectionError as error:  # also RemoteDisconnected
            kind = ConnectionError if source.has_begun else _NeverReadError
            raise kind(str(error) or type(error).__name__) from None
        except http.client.HTTPException as error:
            raise ConnectionError(f"the answer is no HTTP: {error!r}"[:200]) from None
        finally:
            if is_kept:
                self._keep(connection)
            else:
                connection.close()
        return reply

    def _connect(self, deadline: float) -> http.client.HTTPConnection:
        https = self._parts.scheme == "https"
        kind = http.client.HTTPSConnection if https else http.client.HTTPConnection
        timeout = min(self._connect_timeout, _left(deadline))
        connection = kind(self._parts.hostname or "", self._parts.port, timeout=timeout)
        try:
            connection.connect()
        except TimeoutError:
            raise TimeoutError(f"no connection within {timeout:g} s") from None
        except ValueError as error:  # a host name that cannot be encoded
            raise ConnectionError(str(error)) from None
        return connection

    def _take(self) -> http.client.HTTPConnection | None:
        """Return the connection that was idle for the shortest time, if one can still be used."""
        if self._pid != os.getpid():  # a forked child: its parent speaks over these
            self._lock, self._pid = threading.Lock(), os.getpid()
            self.close()
        oldest = time.monotonic() - _KEEP_ALIVE_S
        while True:
            with self._lock:
                if not self._idle:
                    return None
                since, connection = self._idle.pop()
            if since > oldest and not _is_readable(connection.sock):
                return connection
            connection.close()

    def _keep(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if len(self._idle) < _MAX_IDLE:
                self._idle.append((time.monotonic(), connection))
                return
        connection.close()


class _Source:
    """What http.client reads an answer from: a socket whose every read ends at the deadline."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._socket = sock
        self._deadline = deadline
        self.has_begun = False

    def makefile(self, _: str) -> io.BufferedReader:
        return io.BufferedReader(_Timed(self, self._socket.makefile("rb", buffering=0)))

    def before_read(self) -> None:
        self._socket.settimeout(_left(self._deadline))


class _Timed(io.RawIOBase):
    def __init__(self, source: _Source, raw: Any) -> None:
        self._source = source
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._source.before_read()
        count: int | None = self._raw.readinto(buffer)
        self._source.has_begun = self._source.has_begun or bool(count)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def _response(source: Any, _: socket.socket, **named: Any) -> http.client.HTTPResponse:
    return http.client.HTTPResponse(source, **named)


def _read(answer: http.client.HTTPResponse) -> bytes:
    body = answer.read(_MAX_REPLY_BYTES)
    while not answer.isclosed():
        more = answer.read(_MAX_REPLY_BYTES - len(body))
        if not more and not answer.isclosed():
            raise ConnectionError("the answer broke off, or is too long")
        body += more
    return body


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _is_readable(sock: socket.socket) -> bool:
    """Return whether a connection has something to read: nothing is due, so it was closed."""
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(0))


def _split(url: str) -> urllib.parse.SplitResult:
    try:
        parts = urllib.parse.urlsplit(url) if isinstance(url, str) else None
        usable = parts is not None and parts.hostname and parts.port != 0
    except ValueError:  # the port is no number
        usable = False
    if not usable or parts is None or parts.scheme not in ("http", "https"):
        raise ValueError(f"is no http(s) address: {url!r}")
    return parts._replace(path=parts.path.rstrip("/"))

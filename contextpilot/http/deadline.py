"""urllib3's connections, with two promises that its time-outs and retries do not give.

Its time-outs are for each step, so an answer that drips may last for ever: here every step ends
when the call does. And its retries do not know whether a connection was used before: here a
request is repeated only if it was, and ended before any byte of the answer. A server closes idle
connections, and then did not read the request; after a time-out nobody knows.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from contextvars import ContextVar
from functools import partial
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Retry
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ProtocolError

from contextpilot.http import KEEP_ALIVE_S

MAX_IDLE = 64


class Call:
    """One call: until when it may last, and how far the connection got that carries it now."""

    def __init__(self, timeout_s: float, connect_timeout_s: float) -> None:
        self._deadline = time.monotonic() + timeout_s
        self._connect_timeout = connect_timeout_s
        self.is_connected = False
        self.is_kept = False
        self.has_begun = False

    def left(self) -> float:
        """Return the seconds that are left. Raises TimeoutError when there are none."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no answer in time")
        return left

    def left_to_connect(self) -> float:
        """Return the seconds that connecting may take. Raises TimeoutError when there are none."""
        return min(self._connect_timeout, self.left())


CALL: ContextVar[Call] = ContextVar("call")
"""What this thread is at; urllib3 has no way to hand it down."""


class OnlyUnread(Retry):
    """Repeats a request that a kept connection never got to the server, and no other."""

    def __init__(self, total: Any = MAX_IDLE, **named: Any) -> None:
        given = {"connect": 0, "redirect": 0, "status": 0, "other": 0, "allowed_methods": None}
        given |= {"respect_retry_after_header": False}
        super().__init__(total, **{**given, **named})

    def increment(
        self, method: Any = None, url: Any = None, response: Any = None, error: Any = None,
        _pool: Any = None, _stacktrace: Any = None,
    ) -> OnlyUnread:  # fmt: skip
        """Return the retries that are left. Raises the error that is none of these."""
        call = CALL.get()
        was_closed = isinstance(error, ProtocolError) and isinstance(
            error.args[-1], ConnectionError
        )
        if not was_closed or not call.is_kept or call.has_begun:
            raise error.with_traceback(_stacktrace)
        return super().increment(method, url, response, error, _pool, _stacktrace)


class _Timed:
    """Mixed into urllib3's connections: every step of a call ends at its deadline."""

    sock: Any
    timeout: Any
    response_class: Any
    _kept_since: float | None = None

    @property
    def is_connected(self) -> bool:
        """Whether a kept connection can be used: a server closes one that is idle for long."""
        idle_s = 0.0 if self._kept_since is None else time.monotonic() - self._kept_since
        return idle_s <= KEEP_ALIVE_S and super().is_connected  # type: ignore[misc]

    def connect(self) -> None:
        call = CALL.get()
        call.is_connected = call.is_kept = False
        self._kept_since, self.timeout = None, call.left_to_connect()
        super().connect()  # type: ignore[misc]
        call.is_connected = True

    def send(self, data: Any) -> None:
        if self.sock is not None:
            self.sock.settimeout(CALL.get().left())
        super().send(data)  # type: ignore[misc]

    def request(self, *args: Any, **named: Any) -> None:
        call = CALL.get()
        call.is_connected, call.is_kept = self.sock is not None, self._kept_since is not None
        super().request(*args, **named)  # type: ignore[misc]

    def getresponse(self, *args: Any, **named: Any) -> Any:
        self.response_class = partial(_response, CALL.get())
        try:
            return super().getresponse(*args, **named)  # type: ignore[misc]
        finally:
            del self.response_class  # a proxy's answer to CONNECT is read without
            self._kept_since = time.monotonic()


class _Connection(_Timed, HTTPConnection):
    pass


class _TlsConnection(_Timed, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


POOLS = {"http": _Pool, "https": _TlsPool}


class _Source:
    """What http.client reads an answer from: a socket whose every read ends at the deadline."""

    def __init__(self, sock: socket.socket, call: Call) -> None:
        self._socket = sock
        self._call = call

    def makefile(self, _: str) -> io.BufferedReader:
        return io.BufferedReader(_Reads(self._socket, self._call))


class _Reads(io.RawIOBase):
    def __init__(self, sock: socket.socket, call: Call) -> None:
        self._socket = sock
        self._raw: Any = sock.makefile("rb", buffering=0)
        self._call = call

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._socket.settimeout(self._call.left())
        count: int | None = self._raw.readinto(buffer)
        self._call.has_begun = self._call.has_begun or bool(count)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def _response(call: Call, sock: Any, *args: Any, **named: Any) -> http.client.HTTPResponse:
    source: Any = _Source(sock, call)
    return http.client.HTTPResponse(source, *args, **named)

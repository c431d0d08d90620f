"""uvicorn's HTTP protocol with what it lacks: bounds on heads and silence, answers that break."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from contextpilot.http.response import FRAMING_PER_BODY_BYTE
from contextpilot.server.one_protocol import OneProtocolParser
from contextpilot.server.request_body import RETRY_AFTER_S

_CUT = "contextpilot.cut"
_WAITED = "contextpilot.waited"
_TCP_INFO_BYTES = 60
_LAST_DATA_AT = 52
"""Of Linux's `tcp_info`: where the milliseconds since data came last stand."""
_RESET = struct.pack("ii", 1, 0)
MAX_HEAD_BYTES = 64 << 10
"""Of a request: its head, and what frames its body (trailers, the chunks' sizes and extensions)."""
MIN_BODY_RATE = 500.0
"""Bytes a second, beside `client_timeout_s` for all of it, at which a body may come."""
MAX_PIPELINED = 16
"""Requests of a connection that wait for the answer to one before; those beyond are not taken."""
_CLOSING = b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large" + _CLOSING
_TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: %d" % RETRY_AFTER_S + _CLOSING
_TOO_LATE = b"HTTP/1.1 408 Request Timeout" + _CLOSING


def cut_short(scope: Scope) -> None:
    """Close a request's connection in the middle of its answer: ASGI has no word for that."""
    cut: Callable[[], Callable[[Scope], None] | None] | None
    cut = scope.get("extensions", {}).get(_CUT)
    close = cut() if cut is not None else None
    if close is not None:
        close(scope)


def waited_s(scope: Scope) -> float:
    """Return the seconds since a whole request came: it waited in the system, too."""
    extensions: Any = scope.get("extensions", {})
    waited: Callable[[], Callable[[], float] | None] | None = extensions.get(_WAITED)
    tell = waited() if waited is not None else None
    return tell() if tell is not None else 0.0


class Protocol(HttpToolsProtocol):
    """Refuses requests whose head or trailers go on for too long, before they fill the memory.

    A client that is silent in the middle of a request, takes too long for a head, or does not read
    its answer, holds nothing for ever. One that sends many requests at once is answered the first,
    then the connection ends. One that leaves is gone for all that it asked, not for its last
    request alone. An application may end an answer broken (`cut_short`), so that the client sees
    that it is.
    """

    client_timeout_s = 60.0
    """Longest silence of a client whose turn it is; 0: no limit."""
    max_connections = 8192
    """Connections at a time."""

    _num_framing_bytes = 0
    _num_body_bytes = 0
    _is_in_head = False
    _is_in_message = False
    _has_begun = False
    _is_full = False
    _running: RequestResponseCycle | None = None
    _came_at = 0.0
    _owes_since: float | None = None
    _watch: asyncio.TimerHandle | None = None

    @classmethod
    def with_limits(cls, client_timeout_s: float, max_connections: int) -> type[Protocol]:
        """Return this protocol with other limits."""
        limits = {"client_timeout_s": client_timeout_s, "max_connections": max_connections}
        return type(cls.__name__, (cls,), limits)

    def connection_made(self, transport: Any) -> None:
        """Wait for a request, not for ever."""
        super().connection_made(transport)
        self.parser: Any = OneProtocolParser(self)
        if len(self.connections) > self.max_connections:
            self.transport.write(_TOO_MANY)
            self.transport.close()
        elif self.client_timeout_s:
            self._owes_since = self.loop.time()
            self._watch = self.loop.call_later(self.client_timeout_s, self._look_for_silence)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        super().connection_lost(exc)
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        self.pipeline.clear()
        if self._watch is not None:
            self._watch.cancel()

    def pause_writing(self) -> None:
        """Note that the client has to read before more is written."""
        super().pause_writing()
        self._owes_since = self.loop.time()

    def resume_writing(self) -> None:
        """Note that the client reads."""
        super().resume_writing()
        self._owes_since = None

    def data_received(self, data: bytes) -> None:
        """Take bytes of the connection."""
        if self._is_full:
            return
        was_in_head, body_before = self._is_in_head, self._num_body_bytes
        self._has_begun = False
        super().data_received(data)
        if not self.flow.write_paused:
            is_same_head = was_in_head and self._is_in_head and not self._has_begun
            self._expect_more(0.0 if is_same_head else len(data) / MIN_BODY_RATE)
        if self._is_in_message and not self._has_begun and not self.transport.is_closing():
            self._num_framing_bytes += len(data) - (self._num_body_bytes - body_before)
            self._refuse_endless()

    def _expect_more(self, earned_s: float) -> None:
        """Note since when the client owes more of its request.

        Args:
            earned_s: what it sent is worth so much time: nothing where a head comes in drops.
        """
        now = self.loop.time()
        if self._is_full or (not self._is_in_request() and self._is_answer_due()):
            self._owes_since = None
        elif self._owes_since is None or self._has_begun:
            self._owes_since = now
        elif self._is_in_request():  # blank lines before it are worth nothing
            self._owes_since = min(now, self._owes_since + earned_s)

    def _refuse_endless(self) -> None:
        allowed = MAX_HEAD_BYTES + FRAMING_PER_BODY_BYTE * self._num_body_bytes
        if self._num_framing_bytes <= allowed:
            return
        if not self._is_answering():
            self.transport.write(_TOO_LARGE)
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, but not in the middle of an answer."""
        if self._is_answering():
            self.transport.close()
        else:
            super().send_400_response(msg)

    def on_message_begin(self) -> None:
        """Note that a head follows."""
        super().on_message_begin()
        if len(self.pipeline) >= MAX_PIPELINED:
            self._is_full = True
            self.cycle.keep_alive = False  # the last one that is answered
        self._is_in_head = self._is_in_message = self._has_begun = True
        self._num_framing_bytes = self._num_body_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; one head may come in one piece. A trailer is none, whatever its name."""
        if self._is_in_head and not self._is_full:
            super().on_header(name, value)
        self._num_framing_bytes += len(name) + len(value)
        if self._num_framing_bytes > 2 * MAX_HEAD_BYTES + FRAMING_PER_BODY_BYTE * (
            self._num_body_bytes
        ):
            raise ValueError("the head of the request is too long")

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._num_body_bytes += len(body)
        if not self._is_full:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request has come."""
        if self.parser.is_behind_head:
            return
        self._is_in_message = False
        self._came_at = self.loop.time()
        if not self._is_full:
            super().on_message_complete()

    def on_headers_complete(self) -> None:
        """Note that the body follows."""
        self._is_in_head = False
        if self._is_full:
            return
        if self.url[:1] not in b"/*":  # whoever takes us for a proxy: this counts (RFC 9112, 3.2.2)
            self._take_host_from_target()
        super().on_headers_complete()
        if not self.pipeline:
            self._running = self.cycle
        if self.cycle is not None:
            extensions: Any = {
                _CUT: WeakMethod(self._cut),
                _WAITED: WeakMethod(self._waited_s),
            }
            self.cycle.scope["extensions"] = extensions

    def _take_host_from_target(self) -> None:
        host = self.url.partition(b"://")[2].partition(b"/")[0].rpartition(b"@")[2]
        self.headers[:] = [header for header in self.headers if header[0] != b"host"]
        self.headers.append((b"host", host))

    def on_response_complete(self) -> None:
        """Go on with the next request; while others wait behind it, none is read."""
        if self.pipeline:
            self._running = self.pipeline[-1][0]
        super().on_response_complete()
        if self.pipeline:
            self.flow.pause_reading()

    def _is_answering(self) -> bool:
        """Whether an answer has begun that has not ended."""
        running = self._running
        return running is not None and running.response_started and not running.response_complete

    def _is_answer_due(self) -> bool:
        """Whether a request has come that is not answered to its end."""
        return self.cycle is not None and not self.cycle.response_complete

    def _is_in_request(self) -> bool:
        """Whether some of a request came, and more of it has to."""
        is_in_body = self.cycle is not None and self.cycle.more_body
        return not self._is_full and (self._is_in_head or is_in_body)

    def _look_for_silence(self) -> None:
        """End a connection whose client owed something for too long; look again later."""
        if self.flow.read_paused and not self.flow.write_paused:
            self._owes_since = None  # it may not send
        silent = 0.0 if self._owes_since is None else self.loop.time() - self._owes_since
        if silent < self.client_timeout_s:
            self._watch = self.loop.call_later(
                self.client_timeout_s - silent, self._look_for_silence
            )
        elif self.flow.write_paused:
            self.transport.abort()
        else:
            if self._is_in_request() and not self._is_answering():
                self.transport.write(_TOO_LATE)
            self.transport.close()

    def _waited_s(self) -> float:
        connection = self.transport.get_extra_info("socket")
        if sys.platform != "linux" or connection is None:
            return self.loop.time() - self._came_at
        try:
            told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        except (OSError, ValueError):  # it is closed
            return self.loop.time() - self._came_at
        (milliseconds,) = struct.unpack_from("I", told, _LAST_DATA_AT)
        return float(milliseconds) / 1000

    def _cut(self, scope: Scope) -> None:
        cycle = self._running
        if cycle is not None and cycle.scope is scope:
            cycle.disconnected = True  # else uvicorn logs an error of the application
        if scope["http_version"] == "1.0":  # the connection's end would be the answer's: reset it
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.close()

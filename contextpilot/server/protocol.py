"""uvicorn's HTTP protocol with what it lacks: a bound on heads, answers that end broken."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_CUT = "contextpilot.cut"
_RESET = struct.pack("ii", 1, 0)
MAX_HEAD_BYTES = 64 << 10
_REFUSAL = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)


def cut_short(scope: Scope) -> None:
    """Close a request's connection in the middle of its answer: ASGI has no word for that."""
    cut: Callable[[], Callable[[Scope], None] | None] | None
    cut = scope.get("extensions", {}).get(_CUT)
    close = cut() if cut is not None else None
    if close is not None:
        close(scope)


class Protocol(HttpToolsProtocol):
    """Refuses requests whose head goes on for too long, before it fills the memory.

    An application may end an answer broken (`cut_short`), so that the client sees that it is.
    """

    _num_head_bytes = 0
    _is_in_head = False

    def data_received(self, data: bytes) -> None:
        """Take bytes of the connection."""
        went_on = self._is_in_head
        super().data_received(data)
        if went_on and self._is_in_head and not self.transport.is_closing():
            self._num_head_bytes += len(data)
            if self._num_head_bytes > MAX_HEAD_BYTES:
                self.transport.write(_REFUSAL)
                self.transport.close()

    def on_message_begin(self) -> None:
        """Note that a head follows."""
        super().on_message_begin()
        self._is_in_head = True
        self._num_head_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; one head may come in one piece."""
        super().on_header(name, value)
        self._num_head_bytes += len(name) + len(value)
        if self._num_head_bytes > 2 * MAX_HEAD_BYTES:
            raise ValueError("the head of the request is too long")

    def on_headers_complete(self) -> None:
        """Note that the body follows."""
        self._is_in_head = False
        super().on_headers_complete()
        if self.cycle is not None:
            extensions: Any = {_CUT: WeakMethod(self._cut)}
            self.cycle.scope["extensions"] = extensions

    def _cut(self, scope: Scope) -> None:
        cycle = self.cycle
        if cycle is not None and cycle.scope is scope:
            cycle.disconnected = True  # else uvicorn logs an error of the application
        if scope["http_version"] == "1.0":  # the connection's end would be the answer's: reset it
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.close()

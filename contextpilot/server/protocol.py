"""uvicorn's HTTP protocol with a bound on the head of a request, which httptools lacks."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 << 10
_REFUSAL = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)


class BoundedHeadProtocol(HttpToolsProtocol):
    """Refuses requests whose head goes on for too long, before it fills the memory."""

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

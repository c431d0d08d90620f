"""Requests that ask for another protocol, read as what they are in this one."""

from __future__ import annotations

import contextlib
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEAD = b"POST / HTTP/1.1\r\n%b: %b\r\n\r\n"
_FRAMING = (b"content-length", b"transfer-encoding")
_NO_BODY = (b"content-length", b"0")


class OneProtocolParser:
    """llhttp as uvicorn uses it, for a server that never switches protocols.

    Clients may ask for it in passing, as Java's does with `Upgrade: h2c`. What follows such a head
    llhttp takes for bytes of the other protocol: a body would be lost, and what came of it later be
    read as a request of its own. So another parser goes on behind it, which is told how the body is
    framed by a head of our making.
    """

    def __init__(self, protocol: HttpToolsProtocol) -> None:
        self._protocol = protocol
        self._parser = _new_parser(protocol)

    @property
    def is_behind_head(self) -> bool:
        """Whether llhttp says that a request is complete of which the body is still to be read."""
        return bool(self._parser.should_upgrade())

    def feed_data(self, data: bytes) -> None:
        """Read bytes of a connection. Raises httptools.HttpParserError."""
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as asked:
                data = data[asked.args[0] :]
                self._go_on()
            else:
                return

    def should_upgrade(self) -> bool:
        """Whether another protocol takes over: never."""
        return False

    def should_keep_alive(self) -> bool:
        """Whether the connection may be used again."""
        return bool(self._parser.should_keep_alive())

    def get_http_version(self) -> str:
        """Return the request's version of HTTP."""
        return str(self._parser.get_http_version())

    def get_method(self) -> bytes:
        """Return the request's method."""
        return bytes(self._parser.get_method())

    def _go_on(self) -> None:
        framing = [header for header in self._protocol.headers if header[0] in _FRAMING]
        behind = _Behind(self._protocol)
        self._parser = _new_parser(behind)
        self._parser.feed_data(_HEAD % (framing or [_NO_BODY])[0])
        behind.is_head_ours = False


class _Behind:
    """Hands on what a parser tells, but for the head of our making."""

    def __init__(self, protocol: HttpToolsProtocol) -> None:
        self._protocol = protocol
        self.is_head_ours = True
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete

    def on_message_begin(self) -> None:
        if not self.is_head_ours:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self.is_head_ours:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.is_head_ours:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self.is_head_ours:
            self._protocol.on_headers_complete()


def _new_parser(target: Any) -> Any:
    parser = httptools.HttpRequestParser(target)
    with contextlib.suppress(AttributeError):  # httptools below 0.6.3; as uvicorn does
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser

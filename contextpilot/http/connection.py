"""One HTTP/1.1 connection to an engine.

By hand: aiohttp takes 1.6 to 2.7 times the processor time and alters headers, httpcore and httpx
four times and more (`scripts/bench_http_client.py`).
"""

from __future__ import annotations

import asyncio
import select
import ssl
from typing import cast

from contextpilot.http.response import HIGH_WATER_BYTES, Answer, BrokenAnswerError, Headers

_FAREWELLS = (b"HTTP/1.1 408 ", b"HTTP/1.0 408 ")
"""With which some servers end a connection on which nothing came for a while (RFC 9110, 15.5.9)."""


class Connection(asyncio.Protocol):
    """Carries one request after another. For use within one event loop.

    Args:
        read_timeout_s: longest silence while an answer is due; 0: no limit.

    Attributes:
        has_surplus: the engine sent what nobody asked for.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, read_timeout_s: float) -> None:
        self._loop = loop
        self._timeout = read_timeout_s
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._last_heard = 0.0
        self.is_closed = False
        self.has_surplus = False
        self.num_requests = 0
        self.idle_since = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether another request can be sent."""
        answer = self._answer
        return not self.is_closed and (
            answer is None or (answer.is_complete and answer.keeps_alive and not self.has_surplus)
        )

    def can_carry_since(self, oldest: float) -> bool:
        """Whether another request can be sent, and the last one ended after `oldest`."""
        return self.is_idle and self.idle_since > oldest

    def has_unread(self) -> bool:
        """Whether bytes wait that nobody asked for, or the connection's end."""
        connection = self._transport.get_extra_info("socket") if self._transport else None
        return connection is not None and _is_readable(connection.fileno())

    async def request(self, method: bytes, target: bytes, headers: Headers, body: bytes) -> Answer:
        """Send a request; return the answer when its head has come.

        Raises:
            BrokenAnswerError: the connection ended first.
            TimeoutError: the engine stayed silent.
        """
        transport = self._transport
        if self.is_closed or transport is None:
            raise BrokenAnswerError("the engine closed the connection", False)
        answer = self._answer = Answer(method in (b"HEAD", b"CONNECT"), self._pause)
        self.num_requests += 1
        lines = b"".join([b"%b: %b\r\n" % header for header in headers])
        if lines.count(b"\n") != len(headers) or lines.count(b"\r") != len(headers):
            raise ValueError("a header cannot be sent: it holds a line break")
        head = b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, lines)
        if len(body) < HIGH_WATER_BYTES:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)
        self._last_heard = self._loop.time()
        self._watch_silence()
        await answer.head()
        return answer

    async def start_tls(self, tls: ssl.SSLContext, host: str) -> None:
        """Speak TLS with `host` from here on, through a tunnel. Raises OSError."""
        self._stop_watching()
        if self.is_closed or self._transport is None:
            raise ConnectionError("the proxy closed the connection")
        self._answer, self.num_requests = None, 0
        upgrading = self._loop.start_tls(self._transport, self, tls, server_hostname=host)
        transport = await upgrading
        if transport is None or self.is_closed:
            raise ConnectionError("the proxy closed the connection")
        self._transport = transport

    def close(self) -> None:
        """Close the connection; an engine that still writes stops."""
        self.is_closed = True
        self._stop_watching()
        if self._transport is not None:
            self._transport.abort()

    def release(self) -> bool:
        """End the use of an answer; return whether the connection can carry another request."""
        self._stop_watching()
        if self.is_idle:
            self.idle_since = self._loop.time()
            return True
        self.close()
        return False

    # -- asyncio.Protocol ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        was_in_head = answer is not None and answer.is_in_head
        if answer is None or answer.is_complete or not answer.feed(data):
            is_answered = answer is None or answer.is_complete
            self.has_surplus = is_answered and not data.startswith(_FAREWELLS)
            self.close()
        else:
            self.has_surplus = answer.has_surplus
        if not (was_in_head and answer is not None and answer.is_in_head):
            self._last_heard = self._loop.time()  # a head in drops is no sign of life

    def connection_lost(self, _: Exception | None) -> None:
        self.is_closed = True
        self._stop_watching()
        if self._answer is not None:
            self._answer.end()
            self._answer = None

    # -- silence ---------------------------------------------------------------------------------

    def _pause(self, is_paused: bool) -> None:
        if self._transport is not None and not self.is_closed:
            if is_paused:
                self._transport.pause_reading()
            else:
                self._last_heard = self._loop.time()
                self._transport.resume_reading()

    def _watch_silence(self) -> None:
        """Fail when nothing was heard for too long; a pause that we asked for does not count."""
        answer = self._answer
        if not self._timeout or answer is None:
            return
        silent = 0.0 if answer.is_paused else self._loop.time() - self._last_heard
        if silent >= self._timeout:
            answer.fail(TimeoutError("the engine did not answer in time"))
            self.close()
        else:
            self._timer = self._loop.call_later(self._timeout - silent, self._watch_silence)

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _is_readable(descriptor: int) -> bool:
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select((descriptor,), (), (), 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))

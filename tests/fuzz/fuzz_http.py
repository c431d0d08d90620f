"""Bytes through the protocols of both sides, without sockets: what comes out at the other end."""

from __future__ import annotations

import asyncio
import logging
from functools import cache
from typing import Any, NamedTuple

from uvicorn import Config
from uvicorn.server import ServerState

from contextpilot.http.response import Answer
from contextpilot.server.protocol import Protocol

logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
_TURNS, _TURNS_AT_END = 6, 80
"""Turns of the loop that an application without waiting needs for a request, and for all."""


class Request(NamedTuple):
    """What an application is given of a request that came whole."""

    method: str
    target: bytes
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class Heard(NamedTuple):
    """The requests of a connection, and whether it was closed on our side."""

    requests: tuple[Request, ...]
    is_closed: bool


class Wire(asyncio.Transport):
    """A client that reads everything."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.written = bytearray()
        self.is_closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def requests_of(pieces: list[bytes]) -> Heard:
    """Return the whole requests that an application gets of the bytes of one connection."""
    heard: list[Request] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = tuple((bytes(name), bytes(value)) for name, value in scope["headers"])
        heard.append(
            Request(scope["method"], scope["raw_path"], scope["query_string"], headers, bytes(body))
        )
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    loop, wire = _loop(), Wire()
    config = Config(app, log_config=None, access_log=False, ws="none", lifespan="off")
    limits = Protocol.with_limits(0.0, 100)
    protocol = limits(config, ServerState(), {}, loop)
    failed: list[BaseException] = []
    loop.set_exception_handler(lambda _, context: failed.append(context.get("exception")))

    async def feed() -> None:
        protocol.connection_made(wire)
        for piece in pieces:
            if wire.is_closed:
                break
            protocol.data_received(piece)
            for _ in range(_TURNS):
                await asyncio.sleep(0)
        for _ in range(_TURNS_AT_END):
            await asyncio.sleep(0)
        closed.append(wire.is_closed)
        protocol.connection_lost(None)
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    closed: list[bool] = []
    loop.run_until_complete(feed())
    assert not failed, failed
    assert b"500 Internal" not in wire.written
    return Heard(tuple(heard), closed[0])


def answer_of(pieces: list[bytes], is_bodiless: bool) -> Any:
    """Return what is understood of an engine's answer: status, headers, body, how it ended."""
    paused: list[bool] = []
    answer = Answer(is_bodiless, paused.append)
    surplus = False
    for piece in pieces:
        if answer.is_complete:
            surplus = True
            break
        if not answer.feed(piece):
            break
    was_complete = answer.is_complete
    answer.end()
    body, error = _loop().run_until_complete(_read(answer))
    if error:  # where it broke off depends on how it was cut
        return error
    if surplus or was_complete:
        return answer.status, tuple(answer.headers), body
    return answer.status, tuple(answer.headers), body, answer.is_complete


async def _read(answer: Answer) -> tuple[bytes, str]:
    try:
        await answer.head()
        return await answer.read(), ""
    except ConnectionError:
        return b"", "broken"

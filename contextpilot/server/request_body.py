"""Reads request bodies up to a bound for each, and one for all that are held at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Receive

from contextpilot.http.json_parts import MAX_PARTS, PART_BYTES, num_parts, wide_bytes

RETRY_AFTER_S = 1
"""When a client that found no room may come again."""


class BodyTooLargeError(ValueError):
    """A request's body is longer than the server takes."""


class NoRoomError(Exception):
    """Bodies of other requests fill the memory that they may have together."""


class TooManyRequestsError(Exception):
    """The server works on as many requests as it takes at a time."""


class ClientGoneError(ConnectionError):
    """The client went while it was sending its request."""


class Bodies:
    """The bodies of all requests that the server works on. For use on one event loop.

    Args:
        max_bytes: of one body.
        max_total_bytes: of all together; one alone is always taken.
    """

    def __init__(self, max_bytes: int, max_total_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._max_total_bytes = max(max_bytes, max_total_bytes)
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of all bodies that are held now."""
        return self._held_bytes

    @asynccontextmanager
    async def read(self, receive: Receive) -> AsyncIterator[bytes]:
        """Give the whole body of a request, which counts as held until the block ends.

        Raises:
            BodyTooLargeError: it is longer than `max_bytes`.
            NoRoomError: with the others it takes more than `max_total_bytes`.
            ClientGoneError: it was not sent to its end.
        """
        chunks: list[bytes] = []
        length = 0
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError("the client disconnected while sending its request")
                chunk = message.get("body", b"")
                length += len(chunk)
                self._held_bytes += len(chunk)
                self._check(length)
                chunks.append(chunk)
                if not message.get("more_body", False):
                    break
            body = b"".join(chunks)
            del chunks, chunk, message
            parts_bytes = PART_BYTES * min(num_parts(body), MAX_PARTS)  # more are not read
            read_bytes = parts_bytes + wide_bytes(body)
            length += read_bytes
            self._held_bytes += read_bytes
            self._check_held(length)
            yield body
        finally:
            self._held_bytes -= length

    def _check(self, length: int) -> None:
        if length > self._max_bytes:
            raise BodyTooLargeError(f"the body is longer than max_body_bytes ({self._max_bytes})")
        self._check_held(length)

    def _check_held(self, own: int) -> None:
        if self._held_bytes > max(self._max_total_bytes, own):
            raise NoRoomError(
                "the server already holds max_bodies_bytes "
                f"({self._max_total_bytes}) of request bodies: retry later"
            )


def check_parts(body: bytes) -> None:
    """Raise BodyTooLargeError where a body's JSON has more parts than are read."""
    if num_parts(body) > MAX_PARTS:
        raise BodyTooLargeError(
            f"the body's JSON has more than {MAX_PARTS:,} parts besides text: send it in "
            "several requests"
        )

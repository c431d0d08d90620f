"""Reads request bodies up to a bound."""

from __future__ import annotations

from starlette.types import Receive


class BodyTooLargeError(ValueError):
    """A request's body is longer than the server takes."""


class ClientGoneError(ConnectionError):
    """The client went while it was sending its request."""


async def read_body(receive: Receive, max_bytes: int) -> bytes:
    """Return the whole body of a request.

    Raises:
        BodyTooLargeError: it is longer than `max_bytes`.
        ClientGoneError: it was not sent to its end.
    """
    chunks: list[bytes] = []
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError("the client went while it was sending its request")
        chunk = message.get("body", b"")
        length += len(chunk)
        if length > max_bytes:
            raise BodyTooLargeError(f"the body is longer than max_body_bytes ({max_bytes})")
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)

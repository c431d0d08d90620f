"""POST /sync over one kept-alive connection. Blocks its thread for at most `timeout` per step."""

from __future__ import annotations

import http.client
import io
import json
import time
from typing import Any, NamedTuple

from .settings import Settings

_MAX_ANSWER = 65536
_MAX_RECEIVED = 4 * _MAX_ANSWER
_ANSWER_S = 10.0


class NotDelivered(OSError):  # noqa: N818 - an outcome, handled by the reporter alone
    """The index did not take the message; the text says why.

    `is_refused`: it answered that it does not understand it.
    """

    is_refused = False


class Answer(NamedTuple):
    """`status` is "ok" or "resync"; `version` of the event schema is what the index understands."""

    status: str
    version: int


class _Answered(http.client.HTTPResponse):
    """An answer that ends: http.client bounds neither trailers nor interim answers."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_Bounded(sock.makefile("rb", 0)))


class _Bounded(io.RawIOBase):
    """Reads from a socket so many bytes, and for so long."""

    def __init__(self, source: Any) -> None:
        super().__init__()
        self._source = source
        self._left = _MAX_RECEIVED
        self._until = time.monotonic() + _ANSWER_S

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._left <= 0 or time.monotonic() > self._until:
            raise NotDelivered("the answer is too long for an index")
        size: int | None = self._source.readinto(buffer)
        self._left -= size or 0
        return size

    def close(self) -> None:
        self._source.close()
        super().close()


class Transport:
    """One connection to the index. Not thread-safe."""

    def __init__(self, settings: Settings, timeout: float = 2.0) -> None:
        self._settings = settings
        self._timeout = timeout
        self._connection: http.client.HTTPConnection | None = None
        self._headers = {"Content-Type": "application/json"}
        if settings.token:
            self._headers["Authorization"] = f"Bearer {settings.token}"

    def post(self, body: bytes) -> Answer:
        """Send one message.

        Raises NotDelivered for everything else: refused, timed out, not 200, not understood.
        """
        reused = self._connection is not None
        try:
            return self._post(body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            # A server may close an idle connection at any time.
            stale = isinstance(error, (ConnectionError, http.client.RemoteDisconnected))
            if not (reused and stale):
                raise _not_delivered(error) from error
        try:
            return self._post(body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise _not_delivered(error) from error

    def limit(self, seconds: float) -> None:
        """Let the next `post` block for at most `seconds` per step."""
        self._timeout = seconds
        connection = self._connection
        if connection is not None and connection.sock is not None:
            connection.sock.settimeout(seconds)

    def close(self) -> None:
        """Close the connection; the next `post` opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _post(self, body: bytes) -> Answer:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._open()
        connection.request("POST", f"{self._settings.path}/sync", body, self._headers)
        response = connection.getresponse()
        answer = response.read(_MAX_ANSWER + 1)
        if response.status != 200:
            error = NotDelivered(f"HTTP {response.status} {response.reason}")
            error.is_refused = response.status in (400, 422)
            raise error
        if len(answer) > _MAX_ANSWER:
            raise NotDelivered("the answer is too long for an index")
        return _answer(answer)

    def _open(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._settings.secure else http.client.HTTPConnection
        connection = kind(self._settings.host, self._settings.port, timeout=self._timeout)
        connection.response_class = _Answered
        return connection


def _answer(content: bytes) -> Answer:
    try:
        body = json.loads(content)
        status, version = body["status"], body.get("version", 1)
    except (ValueError, KeyError, TypeError, AttributeError):
        status, version = None, 1
    if status not in ("ok", "resync"):
        raise NotDelivered(f"the answer is not one of an index: {content[:80]!r}")
    return Answer(str(status), version if isinstance(version, int) else 1)


def _not_delivered(error: Exception) -> NotDelivered:
    if isinstance(error, NotDelivered):
        return error
    return NotDelivered(f"{type(error).__name__}: {error}")

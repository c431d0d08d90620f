"""Small HTTP exchanges that cannot hold the doctor up."""

from __future__ import annotations

import contextlib
import http.client
import json
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

TIMEOUT_S = 2.0
_MAX_ANSWER = 4 << 20


class UnreachableError(OSError):
    """Nobody answers in HTTP; the text says how it failed."""


class Answer(NamedTuple):
    """Status and decoded JSON; `content` is None for what is no JSON."""

    status: int
    content: Any


class Place(NamedTuple):
    """An http(s) address to ask."""

    parts: SplitResult
    token: str = ""

    @classmethod
    def at(cls, url: str, token: str = "") -> Place:
        """Take an address apart. Raises ValueError, which tells nothing of it: it may hold keys."""
        try:
            parts = urlsplit(url.strip())
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise ValueError("is no http(s) address")
        return cls(parts._replace(path=parts.path.rstrip("/")), token.strip())

    @property
    def shown(self) -> str:
        """The address without user, password and query."""
        parts = self.parts
        name = parts.hostname or ""
        host = f"[{name}]" if ":" in name else name
        hidden = "***@" if parts.username or parts.password else ""
        place = f"{host}:{parts.port}" if parts.port else host
        return f"{parts.scheme}://{hidden}{place}{parts.path}"

    def ask(self, path: str, body: Any = None, timeout: float = TIMEOUT_S) -> Answer:
        """GET a path, or POST a body to it as JSON. `timeout` is in seconds, for each step.

        Raises UnreachableError.
        """
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None if body is None else json.dumps(body).encode()
        method = "GET" if body is None else "POST"
        try:
            with contextlib.closing(self._connect(timeout)) as connection:
                connection.request(method, self.parts.path + path, data, headers)
                response = connection.getresponse()
                return Answer(response.status, _decoded(response.read(_MAX_ANSWER)))
        except TimeoutError:
            raise UnreachableError(f"no answer within {timeout:g} s") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UnreachableError(str(error) or type(error).__name__) from None

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        https = self.parts.scheme == "https"
        kind = http.client.HTTPSConnection if https else http.client.HTTPConnection
        return kind(self.parts.hostname or "", self.parts.port, timeout=timeout)


def _decoded(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None

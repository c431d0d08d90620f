"""Errors of the library, each also of the builtin kind that callers catch already.

ContextPilotError
├── CommandError (also ValueError)
├── ServerError (also RuntimeError)
│   ├── UnreachableError (also ConnectionError)
│   ├── TokenError (also PermissionError)
│   └── NoIndexError
└── UnknownConversationError (also ValueError)
"""

from __future__ import annotations


class ContextPilotError(Exception):
    """Base of the errors that are ContextPilot's own."""


class UnknownConversationError(ContextPilotError, ValueError):
    """The conversation id is unknown to this instance (or was dropped)."""


class CommandError(ContextPilotError, ValueError):
    """A command cannot continue: a file or an option needs fixing."""


class ServerError(ContextPilotError, RuntimeError):
    """The server refused a call, or did not answer as an index server does.

    Attributes:
        status: HTTP status; None if there was no answer.
        url: the URL, without user, password and query.
        words: the server's message.
        field: the part of the request at fault, if the server named one.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        field: str | None = None,
        *,
        url: str = "",
        words: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.field = field
        self.url = url
        self.words = words


class UnreachableError(ServerError, ConnectionError):
    """The server did not answer, or not in time."""


class TokenError(ServerError, PermissionError):
    """The server requires a different index token (401 or 403)."""


class NoIndexError(ServerError):
    """Something answers at this URL, but it is not an index server."""

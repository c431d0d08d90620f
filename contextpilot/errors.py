"""Errors of the library, each also of the builtin kind that callers catch already.

ContextPilotError
├── CommandError (also ValueError)
├── ServerError (also RuntimeError; in client.py)
└── UnknownConversationError (also ValueError)
"""

from __future__ import annotations


class ContextPilotError(Exception):
    """Base of the errors that are ContextPilot's own."""


class UnknownConversationError(ContextPilotError, ValueError):
    """A conversation id was given that this instance has not seen (or has let go)."""


class CommandError(ContextPilotError, ValueError):
    """A command cannot go on: a file, or what its options ask for, needs mending."""

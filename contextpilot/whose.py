"""Whose texts are being read: what is remembered of texts is remembered for each tenant alone.

A text that is known already is read in a part of the time. Whoever could measure that of a text of
his would learn that another tenant had sent the same one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_WHOSE: ContextVar[str] = ContextVar("contextpilot.whose", default="")


def whose() -> str:
    """Return the namespace whose texts are being read; "" where nobody named one."""
    return _WHOSE.get()


@contextmanager
def reading_for(namespace: str) -> Iterator[None]:
    """Read texts for a namespace, on this thread or in this task, until the block ends."""
    token = _WHOSE.set(namespace)
    try:
        yield
    finally:
        _WHOSE.reset(token)

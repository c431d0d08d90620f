"""Whether an answer shows that the engine read the prompt: only then its cache holds it.

A status of 200 alone does not: engines open a stream before they begin with the prompt, and tell
of a full queue, a time-out or a bad request within it.
"""

from __future__ import annotations

import re

_ERROR = re.compile(rb'\s*\{\s*"(?:error"\s*:\s*[^n\s]|(?:object|type)"\s*:\s*"error")')
_ENOUGH_BYTES = 64
"""So many bytes of a JSON object show whether it is an error."""
_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":", b"error:")
_EARLY = re.compile(rb'"type"\s*:\s*"(?:response\.(?:created|queued|in_progress)|ping)"')
"""Events that come before the prompt is read."""


def shows_reading(head: bytes, has_ended: bool) -> bool | None:
    """Return whether the body of a successful answer shows that the prompt was read.

    Args:
        head: what came of the body so far, from its first byte.
        has_ended: no more of it will come.

    Returns:
        None while that cannot be told.
    """
    begin = head.lstrip()
    if begin.startswith(_FIELDS):
        return _stream_shows_reading(head, has_ended)
    if _ERROR.match(begin):
        return False
    if has_ended:
        return True
    if begin.startswith(b"{"):
        return True if len(begin) >= _ENOUGH_BYTES else None
    return None if any(name.startswith(begin) for name in _FIELDS) else True


def _stream_shows_reading(head: bytes, has_ended: bool) -> bool | None:
    """Return the same for a stream of events, from its first event that tells it."""
    *lines, rest = head.split(b"\n")
    for line in [*lines, rest] if has_ended else lines:
        name, _, value = line.partition(b":")
        if name == b"error" or (name == b"event" and value.strip() == b"error"):
            return False
        if name == b"data" and value.strip():
            if _ERROR.match(value):
                return False
            if not _EARLY.search(value):
                return True
    return False if has_ended else None

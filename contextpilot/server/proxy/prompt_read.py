"""Whether an answer shows that the engine read the prompt: only then its cache holds it.

A status of 200 alone does not: engines open a stream before they begin with the prompt, and tell
of a full queue, a time-out or a bad request within it.
"""

from __future__ import annotations

import re

_ERROR = re.compile(rb'\s*\{\s*"(?:error"\s*:\s*[^n\s]|(?:object|type)"\s*:\s*"error")')
_ENOUGH_BYTES = 64
"""So many bytes of a JSON object show whether it is an error."""
_ENOUGH_OF_LINE = 4096
"""So many bytes of an event show what it is."""
_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":", b"error:")
_EARLY = (b"response.created", b"response.queued", b"response.in_progress", b"ping")
"""Events that come before the prompt is read."""
_EARLY_TYPE = re.compile(rb'"type"\s*:\s*"(?:%b)"' % b"|".join(map(re.escape, _EARLY)))


class ReadingSigns:
    """Looks at the body of one successful answer, piece by piece, until it tells.

    Attributes:
        shows_reading: whether it shows that the prompt was read; None while that cannot be told.
    """

    def __init__(self) -> None:
        self.shows_reading: bool | None = None
        self._rest = b""
        self._is_stream = False
        self._is_early = False

    def feed(self, piece: bytes | None) -> None:
        """Take a piece of the body; None is its end."""
        if self.shows_reading is not None:
            return
        self._rest += piece or b""
        has_ended = piece is None
        if not self._is_stream:
            self._rest = self._rest.lstrip()  # blanks may come without end
            self._is_stream = self._rest.startswith(_FIELDS)
            if not self._is_stream:
                self.shows_reading = _object_shows_reading(self._rest, has_ended)
                return
        self.shows_reading = self._look_at_events(has_ended)

    def _look_at_events(self, has_ended: bool) -> bool | None:
        *lines, self._rest = self._rest.split(b"\n")
        is_enough = len(self._rest) >= _ENOUGH_OF_LINE
        if has_ended or is_enough:
            lines.append(self._rest)
        for line in lines:
            told = self._look_at_line(line)
            if told is not None:
                return told
        if is_enough:
            self._rest = b":"  # the rest of the line tells no more than a comment
        return False if has_ended else None

    def _look_at_line(self, line: bytes) -> bool | None:
        name, _, value = line.partition(b":")
        if name == b"event" or not line.strip():  # an empty line ends an event
            self._is_early = value.strip() in _EARLY
        if name == b"error" or (name == b"event" and value.strip() == b"error"):
            return False
        if name != b"data" or not value.strip() or self._is_early or _EARLY_TYPE.search(value):
            return None
        return not _ERROR.match(value)


def _object_shows_reading(begin: bytes, has_ended: bool) -> bool | None:
    if _ERROR.match(begin):
        return False
    if has_ended:
        return True
    if begin.startswith(b"{"):
        return True if len(begin) >= _ENOUGH_BYTES else None
    return None if any(name.startswith(begin) for name in _FIELDS) else True

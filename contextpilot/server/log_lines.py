"""Log lines that nobody waits for, and that nobody can fill a disk with."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections import Counter

_MAX_LINES = 1000
_MAX_KIND_BYTES = 16 << 10
"""Of one kind of line in each window: some hundred lines, or three tracebacks."""
_WINDOW_S = 60.0
_FLUSH_S = 1.0
_STANDARD_ERROR = 2
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
_ESCAPES = {code: repr(chr(code))[1:-1] for code in _CONTROLS}
"""Ends of lines, and what terminals take for commands."""
_Place = tuple[str, int]


class LineFormatter(logging.Formatter):
    """Text in which a message is one line whatever it quotes: nobody else begins a line."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Return the line of a record; its traceback, if any, follows in lines of its own."""
        record.message = record.message.translate(_ESCAPES)
        return super().formatMessage(record)


class Allowance:
    """How much of each kind of line is written in a window; what is left out is counted.

    A kind is a place in the code, whatever its lines quote: there are only so many. Thread-safe.

    Args:
        max_bytes: of a kind in a window; the line that passes them is the last.
        window_s: its length in seconds.
    """

    def __init__(self, max_bytes: int, window_s: float) -> None:
        self._max_bytes = max_bytes
        self._window_s = window_s
        self._num_bytes: Counter[_Place] = Counter()
        self._left_out: dict[_Place, tuple[logging.LogRecord, int]] = {}
        self._ends_at = 0.0
        self._lock = threading.Lock()

    def has_room(self, record: logging.LogRecord) -> bool:
        """Return whether a line is to be written; count it if it is not."""
        kind = (record.pathname, record.lineno)
        with self._lock:
            if self._num_bytes[kind] < self._max_bytes:
                return True
            last, count = self._left_out.get(kind, (record, 0))
            self._left_out[kind] = (last, count + 1)
            return False

    def spend(self, record: logging.LogRecord, num_bytes: int) -> None:
        """Note that a line of so many bytes is written."""
        with self._lock:
            self._num_bytes[record.pathname, record.lineno] += num_bytes

    def renew(self, at_once: bool = False) -> list[logging.LogRecord]:
        """Begin a window once the last has ended; return a line for each kind left out in it."""
        now = time.monotonic()
        with self._lock:
            if now < self._ends_at and not at_once:
                return []
            left_out = list(self._left_out.values())
            self._num_bytes.clear()
            self._left_out.clear()
            self._ends_at = now + self._window_s
        return [_standing_for(first, count) for first, count in left_out]


class LineHandler(logging.Handler):
    """Writes to a file descriptor on a thread of its own; what is not written is counted.

    It writes past `sys.stderr`, whose lock a thread that waits for a reader would hold for ever.

    Args:
        max_lines: lines that wait to be written.
        max_kind_bytes: of one kind of line, written in each window.
        window_s: how long a window is, in seconds.
    """

    def __init__(
        self,
        descriptor: int = _STANDARD_ERROR,
        max_lines: int = _MAX_LINES,
        max_kind_bytes: int = _MAX_KIND_BYTES,
        window_s: float = _WINDOW_S,
    ) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes] = queue.Queue(max_lines)
        self._num_dropped = 0
        self._allowance = Allowance(max_kind_bytes, window_s)
        self._window_s = window_s
        threading.Thread(target=self._write_all, name="contextpilot-log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Let a line be written, unless much of its kind was just now, or too many wait."""
        try:
            self._tell_left_out()
            if self._allowance.has_room(record):
                self._put(record)
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Wait for what was logged to be written, a second at most."""
        self._tell_left_out(at_once=True)
        until = time.monotonic() + _FLUSH_S
        while self._lines.unfinished_tasks and time.monotonic() < until:
            time.sleep(0.005)

    def _tell_left_out(self, at_once: bool = False) -> None:
        for record in self._allowance.renew(at_once):
            self._put(record)

    def _put(self, record: logging.LogRecord) -> None:
        line = self._line(record)
        self._allowance.spend(record, len(line))
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._num_dropped += 1

    def _line(self, record: logging.LogRecord) -> bytes:
        return self.format(record).encode(errors="backslashreplace") + b"\n"

    def _next_line(self) -> bytes:
        """Wait for a line; when none comes, tell what was left out of a flood that has ended."""
        while True:
            with contextlib.suppress(queue.Empty):
                return self._lines.get(timeout=self._window_s)
            self._tell_left_out()

    def _write_all(self) -> None:
        while True:
            line = self._next_line()
            dropped, self._num_dropped = self._num_dropped, 0
            if dropped:
                line += self._line(_dropped(dropped))
            with contextlib.suppress(OSError):  # a full disk, a reader that went
                while line:
                    line = line[os.write(self._descriptor, line) :]
            self._lines.task_done()


def _dropped(count: int) -> logging.LogRecord:
    text = f"{count} log lines were dropped: nobody read them in time"
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)


def _standing_for(first: logging.LogRecord, count: int) -> logging.LogRecord:
    """Return a line that says how many of a kind were left out."""
    text = f"{count} more lines like this one were left out: {first.getMessage()}"
    place = first.pathname, first.lineno
    return logging.LogRecord(first.name, first.levelno, *place, text, None, None)


def open_standard_streams() -> None:
    """Let standard streams that are closed lead nowhere: else a socket would take their number."""
    for descriptor in range(_STANDARD_ERROR + 1):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free

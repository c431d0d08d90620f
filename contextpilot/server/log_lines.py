"""Log lines that nobody has to wait for: a reader that stalls stops its lines, not the server."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time

_MAX_LINES = 1000
_FLUSH_S = 1.0
_STANDARD_ERROR = 2
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
_ESCAPES = {code: repr(chr(code))[1:-1] for code in _CONTROLS}
"""Ends of lines, and what terminals take for commands."""


class LineFormatter(logging.Formatter):
    """Text in which a message is one line whatever it quotes: nobody else begins a line."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Return the line of a record; its traceback, if any, follows in lines of its own."""
        record.message = record.message.translate(_ESCAPES)
        return super().formatMessage(record)


class LineHandler(logging.Handler):
    """Writes to a file descriptor on a thread of its own; what it has no room for is counted.

    It writes past `sys.stderr`, whose lock a thread that waits for a reader would hold for ever.

    Args:
        max_lines: lines that wait to be written.
    """

    def __init__(self, descriptor: int = _STANDARD_ERROR, max_lines: int = _MAX_LINES) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes] = queue.Queue(max_lines)
        self._num_dropped = 0
        threading.Thread(target=self._write_all, name="contextpilot-log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Let a line be written, unless too many wait."""
        try:
            self._lines.put_nowait(self._line(record))
        except queue.Full:
            self._num_dropped += 1
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Wait for what was logged to be written, a second at most."""
        until = time.monotonic() + _FLUSH_S
        while self._lines.unfinished_tasks and time.monotonic() < until:
            time.sleep(0.005)

    def _line(self, record: logging.LogRecord) -> bytes:
        return self.format(record).encode(errors="backslashreplace") + b"\n"

    def _write_all(self) -> None:
        while True:
            line = self._lines.get()
            dropped, self._num_dropped = self._num_dropped, 0
            if dropped:
                line += self._line(_told(dropped))
            with contextlib.suppress(OSError):  # a full disk, a reader that went
                while line:
                    line = line[os.write(self._descriptor, line) :]
            self._lines.task_done()


def _told(num_dropped: int) -> logging.LogRecord:
    text = f"{num_dropped} log lines were dropped: nobody read them in time"
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)


def open_standard_streams() -> None:
    """Let standard streams that are closed lead nowhere: else a socket would take their number."""
    for descriptor in range(_STANDARD_ERROR + 1):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free

"""What was sent, and what was answered: a file that outlives the process that writes it.

| record | written |
|---|---|
| `{"key": ..., "sending": true}` | before a request is sent |
| `{"key": ..., "status": 200, "body": "..."}` | when its answer is there, before anyone is told |

A record is one line, appended by one write. What ends without a line end is a process that died as
it wrote: it is cut off. A file belongs to one process at a time.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections import Counter
from pathlib import Path
from typing import NamedTuple


class Answer(NamedTuple):
    """What an endpoint answered."""

    status: int
    body: str


class Journal:
    """A journal in a file; without a path it is kept in memory. Thread-safe.

    Raises:
        ValueError: the file is no journal.
        OSError: it cannot be read or written, or another process has it open.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._lock = threading.Lock()
        self._places: dict[str, tuple[int, int]] = {}
        self._kept: dict[str, Answer] = {}
        self._open: Counter[str] = Counter()
        self._file = -1 if path is None else _opened(Path(path))
        self._end = 0 if path is None else self._read(Path(path))

    def answer(self, key: str) -> Answer | None:
        """Return the answer to a request; None while there is none."""
        with self._lock:
            if key in self._kept:
                return self._kept[key]
            place = self._places.get(key)
        if place is None:
            return None
        record = json.loads(os.pread(self._file, place[1], place[0]))
        return Answer(record["status"], record["body"])

    def doubts(self, key: str) -> int:
        """Return how often a request was about to be sent, and nobody knows what became of it."""
        return self._open[key]

    def sending(self, key: str) -> None:
        """Record that a request is sent now."""
        with self._lock:
            self._open[key] += 1
            self._append({"key": key, "sending": True})

    def unsent(self, key: str) -> None:
        """Record that a request certainly did not get there."""
        with self._lock:
            self._open.pop(key, None)
            self._append({"key": key, "sending": False})

    def answered(self, key: str, answer: Answer) -> None:
        """Record an answer."""
        with self._lock:
            self._open.pop(key, None)
            place = self._append({"key": key, **answer._asdict()})
            if self._file < 0:
                self._kept[key] = answer
            else:
                self._places[key] = place

    def close(self) -> None:
        """Let another process have the file."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def __len__(self) -> int:
        return len(self._places) + len(self._kept)

    def _append(self, record: dict[str, object]) -> tuple[int, int]:
        line = json.dumps(record).encode() + b"\n"
        start = self._end
        if self._file >= 0:
            written = os.pwrite(self._file, line, start)
            if written != len(line):  # the disk is full: what was written of it is no record
                raise OSError("the journal could not be written")
        self._end = start + len(line)
        return start, len(line)

    def _read(self, path: Path) -> int:
        """Take in what stands in the file; return where its last whole record ends."""
        end = 0
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._take(line, end, path)
                end += len(line)
        os.ftruncate(self._file, end)
        return end

    def _take(self, line: bytes, start: int, path: Path) -> None:
        try:
            record = json.loads(line)
            key, sending = record["key"], record.get("sending")
            is_answer = sending is None and isinstance(record["status"], int)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise ValueError(f"{path} is not a journal: see byte {start}") from None
        if sending:
            self._open[key] += 1
            return
        self._open.pop(key, None)
        if is_answer:
            self._places[key] = (start, len(line))


def _opened(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise OSError(f"the journal {path} is open in another process") from None
    return file

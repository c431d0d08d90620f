"""Keeps written orders in a file, so that a restarted server goes on as it wrote before.

The file holds hashes and orders, no text. It is read once, at the start, and written by a thread of
its own; whatever happens to it, requests go on, and what was written is known in memory.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from contextpilot.prompt.conversation.written_orders import MAX_ORDERS, Order, WrittenOrders

logger = logging.getLogger(__name__)

FLUSH_S = 1.0
"""So old may what is not written yet become."""
_LOCK_S = 2.0
_MAX_RANKS = 2000
"""Of an order that is written down: of longer ones the file could have gigabytes."""
_VERSION = 2
"""Of the file and of its keys: hashes of what an older one meant are found by nobody any more."""
_BESIDE = ("-wal", "-shm", "-journal")
"""Files that SQLite reads and writes beside it, and believes."""
_TABLE = "choices"
_CREATE = (
    "CREATE TABLE IF NOT EXISTS choices "
    "(key BLOB PRIMARY KEY, ranks TEXT NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID"
)
_PUT = "INSERT OR REPLACE INTO choices VALUES (?, ?, ?)"
_READ = "SELECT key, ranks, used FROM choices ORDER BY used DESC LIMIT ?"
_MAX_USED = 1 << 62
"""Uses that are counted; SQLite counts no further than twice as far."""
_SHORTEN = "DELETE FROM choices WHERE used <= (SELECT max(used) FROM choices) - ?"


class StateFile:
    """Written orders that outlive the server.

    Attributes:
        orders: what was written, filled by `open`.

    Args:
        path: the SQLite file; it is made if there is none. "" keeps nothing.
        max_orders: the oldest go when there are more, in memory as in the file.
    """

    def __init__(self, path: str, max_orders: int = MAX_ORDERS) -> None:
        self._path = Path(path)
        self._max = max_orders
        self._is_open = bool(path)
        self._waiting: dict[bytes, Order] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._used = 0
        self._has_warned = False
        self.orders = WrittenOrders(max_orders, self._put if path else None)

    def open(self) -> None:
        """Read the file and start to write it; what is wrong with it is logged, once."""
        if not self._is_open:
            return
        try:
            self._prepare()
            self.orders.restore(self._read())
        except (sqlite3.Error, OSError, ValueError) as error:
            self._is_open = False
            self._waiting.clear()
            fix = "move it away or give another --state"
            logger.error("state file %s cannot be used (%s): %s", self._path, error, fix)
            return
        self._thread = threading.Thread(target=self._run, name="state", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what waits, and stop."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(FLUSH_S + 2 * _LOCK_S)

    # -- the file --------------------------------------------------------------------------------

    def _prepare(self) -> None:
        _check_own(self._path)
        with closing(self._connect()) as file, file:
            _check_schema(file)
            (version,) = file.execute("PRAGMA user_version").fetchone()
            if version > _VERSION:
                raise ValueError(f"it is of version {version}, not {_VERSION}")
            if 0 < version < _VERSION:
                self._begin_anew(file, version)
            with suppress(sqlite3.OperationalError):  # not every file system can
                file.execute("PRAGMA journal_mode = WAL")
            file.execute(_CREATE)
            file.execute(f"PRAGMA user_version = {_VERSION}")

    def _begin_anew(self, file: sqlite3.Connection, version: int) -> None:
        (lost,) = file.execute("SELECT count(*) FROM choices").fetchone()
        file.execute("DROP TABLE choices")
        logger.warning(
            "state file %s starts empty: the keys of its %d stored orders are of version %d, so "
            "earlier conversations are planned again at their next turn",
            *(self._path, lost, version),
        )

    def _read(self) -> Iterator[tuple[bytes, Order]]:
        with closing(self._connect()) as file:
            rows = file.execute(_READ, (self._max,)).fetchall()
        for key, ranks, used in reversed(rows):
            if not 0 <= int(used) < _MAX_USED:
                raise ValueError("an order of it was used too often")
            self._used = max(self._used, int(used))
            yield bytes(key), tuple(map(int, ranks.split()))

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=_LOCK_S)

    # -- writing ---------------------------------------------------------------------------------

    def _put(self, key: bytes, order: Order) -> None:
        with self._lock:
            is_short = len(order) <= _MAX_RANKS
            if is_short and self._is_open and len(self._waiting) < self._max:
                self._waiting[key] = order

    def _run(self) -> None:
        while not self._closing.wait(FLUSH_S):
            self._write()
        self._write()

    def _write(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        if not waiting:
            return
        rows = []
        for key, order in waiting.items():
            self._used += 1
            rows.append((key, " ".join(map(str, order)), self._used))
        try:
            with closing(self._connect()) as file, file:
                file.executemany(_PUT, rows)
                file.execute(_SHORTEN, (self._max,))
        except sqlite3.Error as error:
            with self._lock:  # tried again with the next ones
                self._waiting = waiting | self._waiting
            if not self._has_warned:
                self._has_warned = True
                logger.warning("state file %s cannot be written (%s)", self._path, error)
        else:
            self._has_warned = False


def _check_schema(file: sqlite3.Connection) -> None:
    """Refuse a file in which something runs when it is read or written, such as a view.

    Raises:
        ValueError: it holds something else than orders.
    """
    found = file.execute("SELECT type, name FROM sqlite_master").fetchmany(2)
    if found not in ([], [("table", _TABLE)]):
        raise ValueError("it holds something else than written orders")


def _check_own(path: Path) -> None:
    """Make a file where there is none.

    Raises:
        OSError: it cannot be read or written.
        ValueError: any user of this machine may have written it, or made the link to it.
    """
    beside = [path, *(path.with_name(path.name + end) for end in _BESIDE)]
    _refuse_anothers(os.lstat(file) for file in beside if os.path.lexists(file))
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _refuse_anothers([os.fstat(descriptor)])
    finally:
        os.close(descriptor)


def _refuse_anothers(files: Iterable[os.stat_result]) -> None:
    for told in files if hasattr(os, "geteuid") else ():
        others_write = told.st_mode & 0o002 and not stat.S_ISLNK(told.st_mode)
        if others_write or told.st_uid not in (0, os.geteuid()):
            raise ValueError("another user may have written it")

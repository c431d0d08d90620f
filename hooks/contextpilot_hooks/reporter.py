"""Sends the changes of a ledger to the index, in the background, for as long as the engine lives.

    reporter = open_reporter(ledger, Engine("vllm-host-8000", "vllm", "0.32.0", 16))
    reporter.wake()         # any thread, any time; starts the daemon thread lazily

The ledger wakes it (`ledger.on_change`). One message is under way at a time; it is repeated, byte
for byte, until the index acknowledges it, with growing pauses. Meanwhile changes coalesce in the
ledger, so memory is bounded by it. The first message of an epoch and the answer "resync" lead to a
snapshot, and so do changes that the ledger had to drop. What does not fit into one message follows
with the next ones. An index whose answers say that it does not know of `unfollowed` is told that
the request is gone; one that does not know of points, nothing that could be wrong without them.

A forked child starts as an engine of its own with a new epoch and an empty ledger, and only if
something wakes it. At exit what is left is sent, and then `cleared`, within `EXIT_BUDGET`.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import random
import sys
import threading
import time
import weakref
from typing import NamedTuple

from .ledger import Event, Ledger
from .settings import Engine, Settings
from .transport import NotDelivered, Transport

logger = logging.getLogger("contextpilot.hooks")

HEARTBEAT = 5.0
"""Seconds of silence after which an empty message says that the engine lives."""
EXIT_BUDGET = 1.0
"""Seconds that the end of the process may wait for the last messages."""
_GATHER = 0.02
_BACKOFF = (0.1, 5.0)
_EVENTS_PER_MESSAGE = 512
_UNFOLLOWED_VERSION = 2
"""Version of the event schema from which on there is `unfollowed`."""
_POINTS_VERSION = 3
"""Version from which on there are `points`, `sparse` and `dropped`."""


class Counts(NamedTuple):
    """What became of the messages of this epoch so far."""

    sent: int = 0
    failures: int = 0
    resyncs: int = 0


class _Message(NamedTuple):
    body: bytes
    snapshot: bool
    version: int


class Reporter:
    """Background sender of one ledger. `wake` and `close` are thread-safe."""

    def __init__(
        self,
        ledger: Ledger,
        settings: Settings,
        engine: Engine,
        timeout: float = 2.0,
        heartbeat: float = HEARTBEAT,
    ) -> None:
        self.ledger = ledger
        self.engine = engine
        self._settings = settings
        self._timeout = timeout
        self._heartbeat = heartbeat
        self._begin_epoch()
        ledger.on_change = self.wake

    def _begin_epoch(self) -> None:
        self.epoch = os.urandom(8).hex()
        self.counts = Counts()
        self._seq = 0
        self._snapshot_due = True
        self._message: _Message | None = None
        self._backlog: list[Event] = []
        self._more = 0
        self._version = _POINTS_VERSION if self._needs_points else 1
        self._transport = Transport(self._settings, self._timeout)
        self._pause = 0.0
        self._closing = False
        self._deadline = 0.0
        self._awake = threading.Event()
        self._stop = threading.Event()
        self._start_lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """There is something to send. Never blocks; about a microsecond when already awake."""
        if self._awake.is_set() or self._closing:
            return
        if self._thread is None or not self._thread.is_alive():
            self._start()
        self._awake.set()

    def close(self, timeout: float = EXIT_BUDGET, wait: bool = True) -> None:
        """Send what is left and `cleared`, for at most `timeout` seconds. Idempotent.

        With `wait` False it returns at once and the daemon thread does it; a later call with
        `wait` still waits for that.
        """
        if not self._closing:
            self._deadline = time.monotonic() + timeout
            self._closing = True
            self._stop.set()
            self._awake.set()
        thread = self._thread
        if wait and thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def abandon_fork(self) -> None:
        """In a forked child: the parent's engine is not ours. Runs before any other thread."""
        self.ledger.forget()
        self._begin_epoch()

    def _start(self) -> None:
        with self._start_lock:
            if self._thread is not None and self._thread.is_alive():
                return
            self._thread = threading.Thread(
                target=self._run, name="contextpilot-reporter", daemon=True
            )
            self._thread.start()

    # On the reporter's thread.

    def _run(self) -> None:
        while not self._closing:
            try:
                self._turn()
            except Exception as error:
                logger.debug("reporter: %r", error, exc_info=error)
                self._fail(f"{type(error).__name__}: {error}")
        self._farewell()

    def _turn(self) -> None:
        changed = self._awake.wait(self._heartbeat)
        if changed:
            self._stop.wait(_GATHER)
            self._awake.clear()
        message = self._next_message(heartbeat=not changed)
        while message is not None and not self._closing:
            self._deliver(message)
            message = self._next_message(heartbeat=False)

    def _next_message(self, heartbeat: bool) -> _Message | None:
        if self._message is not None:
            self.ledger.settle()
            return self._message
        if self._snapshot_due or self.ledger.lost:
            self._backlog = self.ledger.snapshot()
            self._more = len(self._backlog)
            self._message = self._encode(self._next_events(), snapshot=True)
            return self._message
        if not self._backlog:
            self._backlog = self.ledger.take()
        if not self._backlog and not heartbeat:
            return None
        self._message = self._encode(self._next_events(), snapshot=False)
        return self._message

    def _next_events(self) -> list[Event]:
        events = self._backlog[:_EVENTS_PER_MESSAGE]
        del self._backlog[:_EVENTS_PER_MESSAGE]
        self._more = max(0, self._more - len(events))
        return events

    def _encode(self, events: list[Event], snapshot: bool) -> _Message:
        engine = self.engine
        speaks = min(self._version, _POINTS_VERSION if self._needs_points else _UNFOLLOWED_VERSION)
        if speaks < _POINTS_VERSION and not any(event.kind == "unfollowed" for event in events):
            version = 1
        else:
            version = speaks
        head = {
            "version": version,
            "engine": engine.name,
            "epoch": self.epoch,
            "seq": self._seq,
            "kind": engine.kind,
            "engine_version": engine.version,
            "block_size": engine.block_size,
            "snapshot": snapshot,
        }
        if version >= _POINTS_VERSION:
            head.update(dropped=engine.dropped, sparse=engine.sparse)
        if self._more:
            head["more"] = self._more
        parts = []
        for event in events:
            parts.append(_encode_event(_told(event, engine, speaks), speaks))
            if len(parts) % 256 == 0:
                time.sleep(0)  # lets the scheduler have the interpreter
        body = f'{json.dumps(head)[:-1]}, "events": [{", ".join(parts)}]}}'
        return _Message(body.encode(), snapshot, version)

    @property
    def _needs_points(self) -> bool:
        return self.engine.sparse or self.engine.dropped > 0

    def _deliver(self, message: _Message) -> None:
        try:
            status, version = self._transport.post(message.body)
        except NotDelivered as error:
            if error.is_refused and message.version > 1:  # an older index took the last one's place
                self._version, self._message, self._snapshot_due = 1, None, True
            self._fail(str(error))
            return
        if status == "resync" and message.snapshot:
            self._version, self._message = version, None
            self._fail("the index asks for a snapshot in answer to a snapshot")
            return
        if self._pause:
            logger.info(
                "contextpilot: index at %s:%s answers again",
                self._settings.host,
                self._settings.port,
            )
        self._pause = 0.0
        self._message = None
        self._seq += 1
        knows_points = message.version < _POINTS_VERSION <= version and self._needs_points
        self._version, self._snapshot_due = version, status == "resync" or knows_points
        resyncs = self.counts.resyncs + (status == "resync")
        self.counts = self.counts._replace(sent=self.counts.sent + 1, resyncs=resyncs)

    def _fail(self, reason: str) -> None:
        if not self._pause:
            if self._settings.path.endswith("/v1"):
                reason += " (an index is at the URL without /v1)"
            logger.warning(
                "contextpilot: index at %s:%s: %s; the engine continues, changes are sent later",
                self._settings.host,
                self._settings.port,
                reason,
            )
        self.counts = self.counts._replace(failures=self.counts.failures + 1)
        shortest, longest = _BACKOFF
        self._pause = min(longest, max(shortest, self._pause * 2))
        self._stop.wait(self._pause * random.uniform(0.5, 1.0))

    def _farewell(self) -> None:
        try:
            self._finish()
        except Exception as error:
            logger.debug("reporter: last messages not sent: %r", error)
        finally:
            self._transport.close()

    def _finish(self) -> None:
        # The cache dies with its process, so this says all that is left to say.
        last = [Event("cleared")]
        if self._message is not None:
            self._last_post(self._message)
        self._last_post(self._encode(last, snapshot=False))

    def _last_post(self, message: _Message) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise NotDelivered("no time left")
        self._transport.limit(left)
        self._transport.post(message.body)
        self._seq += 1


def _told(event: Event, engine: Engine, version: int) -> Event:
    """An event as it may be told in a version, on the safe side."""
    if version >= _POINTS_VERSION or not event.tokens:
        return event
    tokens = 0 if engine.sparse else max(0, event.tokens - engine.dropped)
    return event._replace(kind=event.kind if tokens else "truncated", tokens=tokens, points=None)


def _encode_event(event: Event, version: int) -> str:
    # Request ids are plain ASCII without quotes; see ids.REQUEST_ID.
    if event.kind == "cleared":
        return '{"event": "cleared"}'
    if event.kind == "unfollowed":
        if version >= _UNFOLLOWED_VERSION:
            return f'{{"event": "unfollowed", "request": "{event.request}"}}'
        return f'{{"event": "truncated", "request": "{event.request}", "tokens": 0}}'
    text = f'{{"event": "{event.kind}", "request": "{event.request}", "tokens": {event.tokens}'
    if event.kind == "cached":
        text += f', "prompt_tokens": {event.prompt_tokens}'
    if event.points is not None and event.tokens:
        text += f', "points": {json.dumps(event.points)}'
    return text + "}"


def open_reporter(
    ledger: Ledger, engine: Engine, settings: Settings | None = None, **options: float
) -> Reporter:
    """A reporter that follows fork and exit of this process. Raises ValueError (see Settings)."""
    reporter = Reporter(ledger, settings or Settings.from_environ(), engine, **options)
    known = weakref.ref(reporter)

    def after_fork() -> None:
        child = known()
        if child is not None:
            child.abandon_fork()

    def at_exit() -> None:
        ending = known()
        if ending is not None:
            ending.close()

    os.register_at_fork(after_in_child=after_fork)
    atexit.register(at_exit)
    processes = sys.modules.get("multiprocessing.util")
    if processes is not None:
        # A forked multiprocessing child leaves through os._exit and runs no atexit (before 3.12).
        processes.Finalize(None, at_exit, exitpriority=0)
    return reporter

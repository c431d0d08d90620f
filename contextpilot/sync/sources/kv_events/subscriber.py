"""Listens to one rank's KV events: each in its order and once, or it is told what is not known.

Messages are numbered from 0 at each start of the engine, and the number is all that tells a restart
from a gap; so who was cut off compares the last message that it knows with the engine's own copy.

| what comes                      | what is done                                                   |
|---------------------------------|----------------------------------------------------------------|
| the next number                 | applied                                                        |
| a number before, the same bytes | ignored                                                        |
| a number before, other bytes    | the engine began anew: all of before is forgotten              |
| a number too high               | what is missing is replayed; what cannot be makes all unknown  |
| a payload that is none          | as a gap that cannot be replayed                               |
| the connection ends             | as a gap, even if no number is missing: nobody knows           |
| more than may wait for us       | the connection is ended, and made anew a while later           |
| nothing, though prompts were    | what comes after the last message is asked for                 |
| read                            |                                                                |
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from contextpilot.sync.sources.kv_events.intake import LOOK_EVERY_S, Intake
from contextpilot.sync.sources.kv_events.wire import (
    MAX_BYTES,
    Change,
    Cleared,
    MalformedError,
    decode,
)

logger = logging.getLogger(__name__)

REPLAY_TIMEOUT_S = 5.0
"""For all that is replayed at once."""
REOPEN_AFTER_S = 5.0
MAX_REPLAYED_BYTES = 256 << 20
_SUBSCRIBED_AFTER_S = 0.5
"""What is published within this time after a connection was made may not reach us."""
_MAX_QUEUED = 64
"""Messages that wait for us; beyond, the engine's side drops them, and they count as a gap."""
_MAX_REPLAY_QUEUED = 4096
_KEEPALIVE_S = 5
"""A silent peer is asked for after this time, again as often, and is gone after three questions."""
_MAX_SEEN = 1024
_END = -1


class Listener(Protocol):
    """Who is told what a rank publishes."""

    def changed(self, rank: int, changes: list[Change]) -> None:
        """Take the changes of one message."""

    def unknown(self, rank: int) -> None:
        """Take nothing that a rank told before for known: something is missing."""

    def began(self, rank: int, *, is_restart: bool) -> None:
        """Take everything of a rank for gone: here is the engine's first message."""


class _Message(NamedTuple):
    number: int
    payload: bytes


class Subscriber:
    """One rank's socket. For use on one thread.

    Args:
        zmq: the module.
        context: its context.
        endpoint, replay: as of `KvAddress`.

    Attributes:
        is_connected: whether the engine's socket is there.
        is_complete: whether all is known since the engine's start, or since its cache was empty.
        num_messages, num_replayed, num_gaps, num_restarts, num_malformed, num_repeated: so far.
    """

    def __init__(
        self,
        zmq: Any,
        context: Any,
        endpoint: str,
        replay: str,
        topic: str,
        rank: int,
        listener: Listener,
    ) -> None:
        self._zmq = zmq
        self._context = context
        self._endpoint = endpoint
        self._replay_at = replay
        self._topic = topic.encode()
        self._rank = rank
        self._listener = listener
        self._next: int | None = None
        self._seen: OrderedDict[int, int] = OrderedDict()
        self._look_at: float | None = None
        self._reopen_at: float | None = None
        self._is_doubtful = False
        self._heard_at = float("-inf")
        self._answers = True
        self.is_connected = self.is_complete = False
        self.num_messages = self.num_replayed = self.num_gaps = 0
        self.num_restarts = self.num_malformed = self.num_repeated = 0
        self._connect()

    def _connect(self) -> None:
        self._make()
        self.socket.connect(self._endpoint)

    def _make(self) -> None:
        """Make a socket that leads nowhere yet."""
        self.socket = self._open(self._zmq.SUB, _MAX_QUEUED)
        self.socket.setsockopt(self._zmq.SUBSCRIBE, self._topic)
        self._intake = Intake(self._zmq, self.socket, self._zmq.EVENT_HANDSHAKE_SUCCEEDED)

    @property
    def monitor(self) -> Any:
        """A socket that becomes readable when the engine's comes or goes."""
        return self._intake.monitor

    def close(self) -> None:
        """Close the sockets."""
        self._intake.close()
        self.socket.close(0)

    def due_s(self) -> float | None:
        """Return in how many seconds `look` wants to be called; None: not by itself."""
        times = [at - time.monotonic() for at in (self._look_at, self._reopen_at) if at is not None]
        if self._intake.is_connected:
            times.append(LOOK_EVERY_S)
        return max(0.0, min(times)) if times else None

    def read(self, most: int = 256) -> None:
        """Take what has come, of many messages the first."""
        self._watch()
        for _ in range(most):
            frames = self._intake.receive()
            if frames is None:
                break
            message = _message(frames)
            if message is None or message.number < 0:
                self._malformed()
            else:
                self._take(message)
        if self._intake.is_too_much():
            self._cut_off()
        self._look()

    def check(self, since: float) -> None:
        """Learn what was lost without a trace, if nothing came since a monotonic time.

        An engine that did not replay when it was asked here is not asked again.
        """
        has_all = self._next is None or self._heard_at >= since
        if has_all or not (self._replay_at and self._answers and self.is_connected):
            return
        self._answers = self._catch_up()
        self._heard_at = time.monotonic()

    def open_replay(self) -> tuple[Any, Intake]:
        """Return a socket to where the engine replays, and what watches it."""
        socket = self._open(self._zmq.DEALER, _MAX_REPLAY_QUEUED)
        intake = Intake(self._zmq, socket)
        socket.connect(self._replay_at)
        return socket, intake

    def _open(self, kind: int, most: int) -> Any:
        """Return a socket that notices when the engine's machine is gone.

        TCP asks, not ZMQ_HEARTBEAT_IVL: once a heartbeat ends a connection whose queue is full,
        libzmq (4.3.5; its issues 3937, 4364, 4767) aborts the process.
        """
        socket, zmq = self._context.socket(kind), self._zmq
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.RCVHWM, most),
            (zmq.MAXMSGSIZE, MAX_BYTES),
            (zmq.TCP_KEEPALIVE, 1),
            (zmq.TCP_KEEPALIVE_IDLE, _KEEPALIVE_S),
            (zmq.TCP_KEEPALIVE_INTVL, _KEEPALIVE_S),
            (zmq.TCP_KEEPALIVE_CNT, 3),
            (zmq.RECONNECT_IVL_MAX, 2000),
            (zmq.IPV6, 1),
        ):
            socket.setsockopt(option, value)
        return socket

    # -- the connection --------------------------------------------------------------------------

    def _watch(self) -> None:
        """Learn whether the engine's socket came or went."""
        for event in self._intake.events():
            if event == self._zmq.EVENT_DISCONNECTED:
                self._went()
            elif event == self._zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.is_connected, self._answers, self._reopen_at = True, True, None
                self._look_at = time.monotonic() + _SUBSCRIBED_AFTER_S

    def _went(self) -> None:
        self.is_connected, self._look_at = False, None
        self._reopen_at = time.monotonic() + REOPEN_AFTER_S
        self._is_doubtful = self._next is not None

    def _cut_off(self) -> None:
        """End a connection that fills our memory; another is made a while later."""
        logger.warning("rank %d sends faster than it is read: it is disconnected", self._rank)
        self.close()
        self._make()
        self._went()

    def _look(self) -> None:
        """Once after each connection: learn what came before it, and while it was being made.

        ZeroMQ connects anew by itself, but not once it ended a connection: for what is too large.
        """
        if self._reopen_at is not None and time.monotonic() >= self._reopen_at:
            self._reopen_at = time.monotonic() + REOPEN_AFTER_S
            self.close()
            self._connect()
        if self._look_at is None or time.monotonic() < self._look_at:
            return
        self._look_at = None
        if self._replay_at:
            self._catch_up()
        if self._is_doubtful:
            self._start_over()

    # -- messages --------------------------------------------------------------------------------

    def _take(self, message: _Message) -> None:
        number, seen = message.number, self._seen.get(message.number)
        if self._is_doubtful or self._next is None:
            self._join(message)
        elif number == self._next:
            self._apply(message)
        elif number > self._next:
            self.num_gaps += 1
            self._join(message)
        elif seen == hash(message.payload):
            self.num_repeated += 1
        else:
            self._begin()
            self._join(message)

    def _join(self, message: _Message) -> None:
        """Take a message of which it is not known what came before it."""
        if self._replay_at and (message.number or self._is_doubtful):
            self._catch_up()
        if self._is_doubtful:
            self._start_over()
        if self._next is None and message.number == 0:
            self._begin()
        if self._next is not None and message.number < self._next:
            return  # the replay had it
        if self._next is not None and message.number > self._next:
            self._lose()
        self._apply(message)

    def _catch_up(self) -> bool:
        """Apply what is missing, as far as the engine still has it; return whether it said so.

        Its queue towards us may overflow meanwhile: what fell out is asked for again.
        """
        deadline = time.monotonic() + REPLAY_TIMEOUT_S
        while time.monotonic() < deadline:
            before = self._next
            if self._replay(deadline):
                self._is_doubtful = False
                return True
            if self._next == before:
                break
        return False

    def _replay(self, deadline: float) -> bool:
        """Replay once, from the last message that is known; return whether nothing is missing.

        If that is not there, or another, the engine began anew: then another replay is due.
        """
        first = 0 if self._next is None else self._next - 1
        replay, number = _Replay(self, first, deadline), _END
        for number, payload in replay:
            if self._next is not None and number == self._next - 1:
                if self._seen.get(number) != hash(payload):
                    self._begin()
                    return False
                continue
            if self._next is None and number == 0:
                self._begin()
            elif self._next is not None and number > self._next:
                if self.num_replayed > replay.before:
                    return False
                self._lose()  # the engine keeps no more
            self.num_replayed += 1
            self._apply(_Message(number, payload))
        if replay.is_whole and number == _END and self._next is not None:
            self._begin()
            return False
        return replay.is_whole

    def _apply(self, message: _Message) -> None:
        self._next, self._heard_at = message.number + 1, time.monotonic()
        self._seen[message.number] = hash(message.payload)
        if len(self._seen) > _MAX_SEEN:
            self._seen.popitem(last=False)
        self.num_messages += 1
        try:
            changes = decode(message.payload)
        except MalformedError:
            self._malformed()
            return
        self.is_complete = self.is_complete or Cleared() in changes
        self._listener.changed(self._rank, changes)

    def _malformed(self) -> None:
        """Note a payload that says nothing; it may have said that blocks are gone."""
        if not self.num_malformed:
            logger.warning("rank %d publishes messages that are not known KV events", self._rank)
        self.num_malformed += 1
        self._lose()

    def _lose(self) -> None:
        self.is_complete = self._is_doubtful = False
        self._listener.unknown(self._rank)

    def _start_over(self) -> None:
        """Take whatever comes next for the beginning of what is known."""
        self._lose()
        self._next = None
        self._seen.clear()

    def _begin(self) -> None:
        """Begin with an engine that just started, or at its first message."""
        is_restart = bool(self._seen)
        self.num_restarts += is_restart
        self._next, self._is_doubtful, self.is_complete = None, False, True
        self._seen.clear()
        self._listener.began(self._rank, is_restart=is_restart)


class _Replay:
    """What the engine still has from a number on; it ends early when that takes long.

    Attributes:
        is_whole: whether the engine said that this was all.
        before: `num_replayed` when it began.
    """

    def __init__(self, subscriber: Subscriber, first: int, deadline: float) -> None:
        self._subscriber = subscriber
        self._first = first
        self._deadline = deadline
        self.is_whole = False
        self.before = subscriber.num_replayed

    def __iter__(self) -> Iterator[_Message]:
        socket, intake = self._subscriber.open_replay()
        left = MAX_REPLAYED_BYTES
        try:
            socket.send_multipart([b"", self._first.to_bytes(8, "big")])
            for frames in self._messages(socket, intake):
                message = _message(frames)
                if message is None or message.number == _END:
                    self.is_whole = message is not None
                    return
                left -= len(message.payload)
                if message.number >= self._first:
                    yield message
                if left <= 0:
                    return
        finally:
            intake.close()
            socket.close(0)

    def _messages(self, socket: Any, intake: Intake) -> Iterator[list[bytes]]:
        """Yield what comes, until that takes too long or too much of it waits."""
        while (left_s := self._deadline - time.monotonic()) > 0 and not intake.is_too_much():
            socket.poll(int(1000 * min(left_s, LOOK_EVERY_S)))
            for _ in intake.events():
                pass
            frames = intake.receive()
            if frames is not None:
                yield frames


def _message(frames: list[bytes]) -> _Message | None:
    """Return a message: number and payload are its last frames; None for what is none."""
    if len(frames) < 2 or len(frames[-2]) != 8:
        return None
    return _Message(int.from_bytes(frames[-2], "big", signed=True), frames[-1])

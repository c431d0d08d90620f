"""What a socket of ZeroMQ's took from the network, and how much of it came out.

ZeroMQ bounds how many messages wait, and how long a frame is. A message may have as many frames as
its sender likes, and comes out once it is whole: who sends frames without end fills the memory of
whoever listens. So what the system received is compared with what was handed over.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Any

MAX_WAITING_BYTES = 16 << 20
"""Of messages that did not come out yet: two of the largest."""
LOOK_EVERY_S = 0.25
_FORGIVEN_BYTES = 1 << 20
"""Greetings and signs of life are counted with what waits, up to this."""
_SHORT_FRAME = 255
_FRAMING = 2, 9
"""Bytes before a short frame, and before a longer one."""
_TCP_INFO_BYTES = 136
_RECEIVED_AT = 128
"""Of Linux's `tcp_info`: where the bytes stand that a connection received so far."""


class Intake:
    """Watches one socket with one connection. For use on one thread, from before it connects.

    Attributes:
        monitor: becomes readable when there are `events`.
    """

    def __init__(self, zmq: Any, watched: Any, events: int = 0) -> None:
        self._zmq = zmq
        self._watched = watched
        self._descriptor = -1
        self._handed = 0
        kinds = zmq.EVENT_CONNECTED | zmq.EVENT_DISCONNECTED | events
        self.monitor = watched.get_monitor_socket(kinds)

    def close(self) -> None:
        """Watch no more."""
        self._watched.disable_monitor()
        self.monitor.close(0)

    def events(self) -> Iterator[int]:
        """Yield what became of the connection since this was asked last, as ZeroMQ's numbers."""
        while True:
            try:
                told: bytes = self.monitor.recv_multipart(self._zmq.NOBLOCK)[0]
            except self._zmq.Again:
                return
            event, value = struct.unpack("=Hi", told)
            if event == self._zmq.EVENT_CONNECTED:
                self._descriptor, self._handed = value, 0
            elif event == self._zmq.EVENT_DISCONNECTED:
                self._descriptor = -1  # soon another's
            yield event

    def receive(self) -> list[bytes] | None:
        """Return the next message's frames; None when none is whole."""
        try:
            frames: list[bytes] = self._watched.recv_multipart(self._zmq.NOBLOCK)
        except self._zmq.Again:
            waiting = self._waiting_bytes()
            self._handed += waiting if waiting < _FORGIVEN_BYTES else 0
            return None
        self._handed += sum(len(frame) + _FRAMING[len(frame) > _SHORT_FRAME] for frame in frames)
        return frames

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection that may take too much."""
        return self._descriptor >= 0

    def is_too_much(self) -> bool:
        """Return whether more waits than may; False where the system does not tell."""
        return self._waiting_bytes() > MAX_WAITING_BYTES

    def _waiting_bytes(self) -> int:
        if not self.is_connected or sys.platform != "linux":
            return 0
        with contextlib.suppress(OSError):  # it is closed, or none of TCP
            connection = socket.socket(fileno=self._descriptor)
            try:
                told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
            finally:
                connection.detach()
            if len(told) == _TCP_INFO_BYTES:  # Linux since 4.1
                return max(0, int(struct.unpack_from("Q", told, _RECEIVED_AT)[0]) - self._handed)
        return 0

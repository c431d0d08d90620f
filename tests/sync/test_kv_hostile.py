"""Publishers of KV events that mean harm: whatever they send, memory is bounded and all goes on."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from kv_publisher import CLEARED, Publisher, stored, until

zmq = pytest.importorskip("zmq")

MEGABYTE = b"\x03" + struct.pack(">Q", 1 << 20) + b"x" * (1 << 20)
"""A frame behind which others of the same message follow."""
NUM_SENT = 400
"""Of them, where nobody ends the connection."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what came")


class Endless:
    """Speaks ZeroMQ's protocol far enough to send one message whose frames never end.

    Attributes:
        was_cut_off: for each connection, whether its other side ended it.
    """

    def __init__(self, kind: bytes) -> None:
        self._kind = kind
        self._server = socket.create_server(("127.0.0.1", 0))
        self.was_cut_off: list[bool] = []
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"tcp://127.0.0.1:{self._server.getsockname()[1]}"

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                with connection:
                    self.was_cut_off.append(self._is_cut_off(connection))

    def _is_cut_off(self, connection: socket.socket) -> bool:
        ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(self._kind)) + self._kind
        try:
            connection.sendall(b"\xff" + bytes(8) + b"\x7f\x03\0NULL" + bytes(48))
            connection.sendall(bytes([4, len(ready)]) + ready)
            for _ in range(NUM_SENT):
                connection.sendall(MEGABYTE)
                time.sleep(0.01)
        except OSError:
            return True
        return False

    def close(self) -> None:
        self._server.close()


@contextlib.contextmanager
def publishing(ports: tuple[int, int | None]) -> Iterator[tuple[Publisher, str]]:
    with closing(Publisher(ports)) as publisher:
        yield publisher, f"tcp://127.0.0.1:{publisher.port}"


class Noting:
    """Takes what a subscriber tells."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def changed(self, rank: int, changes: list[Any]) -> None:
        self.told += changes

    def unknown(self, rank: int) -> None:
        self.told.append("unknown")

    def began(self, rank: int, *, is_restart: bool) -> None:
        self.told.append("began")


@contextlib.contextmanager
def reading(endpoint: str, replay: str = "") -> Iterator[Any]:
    from contextpilot.sync.sources.kv_events.subscriber import Subscriber

    context = zmq.Context()
    made = Subscriber(zmq, context, endpoint, replay, "", 0, Noting())
    try:
        yield made
    finally:
        made.close()
        context.destroy(0)


def test_a_message_without_end_is_cut_off() -> None:
    with closing(Endless(b"PUB")) as publisher, reading(publisher.endpoint) as reader:
        until(lambda: reader.read() or publisher.was_cut_off)
        assert publisher.was_cut_off == [True]
        assert not reader.is_connected
        assert reader.due_s() > 1  # it is not asked again at once
        assert reader.num_messages == 0


def test_a_replay_without_end_is_cut_off() -> None:
    with closing(Endless(b"ROUTER")) as replays, publishing((0, None)) as (publisher, endpoint):
        follow_through_a_gap(publisher, endpoint, replays.endpoint)
        until(lambda: replays.was_cut_off)
        assert all(replays.was_cut_off)


def follow_through_a_gap(publisher: Publisher, endpoint: str, replay: str) -> None:
    with reading(endpoint, replay) as reader:
        until(lambda: reader.read() or publisher.is_subscribed(0.01))
        publisher.number = 5
        publisher.publish(CLEARED)
        until(lambda: reader.read() or reader.num_messages == 1)


def test_numbers_that_no_engine_gives_are_no_messages() -> None:
    with publishing((0, 0)) as (publisher, endpoint):
        send_odd_numbers(publisher, endpoint, f"tcp://127.0.0.1:{publisher.replay_port}")


def send_odd_numbers(publisher: Publisher, endpoint: str, replay: str) -> None:
    payload = publisher.publish(stored([1], [1, 2, 3, 4]), lose=True, forget=True)
    with reading(endpoint, replay) as reader:
        until(lambda: reader.read() or publisher.is_subscribed(0.01))
        for number in (-5, -1, -(2**63), 2**63 - 1, -(2**63), 2**63 - 1, -2):
            frame = number.to_bytes(8, "big", signed=True)
            publisher.pub.send_multipart((b"", frame, payload))
        until(lambda: reader.read() or reader.num_malformed == 5)
        publisher.number = 7
        publisher.publish(CLEARED)
        until(lambda: reader.read() or reader.is_complete)

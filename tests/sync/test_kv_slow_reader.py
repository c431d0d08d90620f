"""A reader of KV events whose queue is full: whatever the engine does then, our process lives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import kv_publisher
import pytest

zmq = pytest.importorskip("zmq")

ROUNDS = 10
TESTS = str(Path(kv_publisher.__file__).parent)
READER = """
import sys, zmq
from kv_publisher import Publisher
from contextpilot.sync.sources.kv_events.subscriber import Subscriber

class Nobody:
    def changed(self, rank, changes): pass
    def unknown(self, rank): pass
    def began(self, rank, *, is_restart): pass

context = zmq.Context()
publisher = Publisher((0, None))
reader = Subscriber(zmq, context, f"tcp://127.0.0.1:{publisher.port}", "", "", 0, Nobody())
for number in range(int(sys.argv[1])):
    while not publisher.is_subscribed(0.02):
        reader.read(20)
    for _ in range(1000):
        publisher.send(b"x" * 300)
    seen = reader.num_messages
    while reader.num_messages < seen + 64:
        reader.read(8 + number)
    publisher.pub.close(0)
    reader.read(number)
    publisher.reopen()
    reader.read()
print(reader.num_messages)
"""


def test_an_engine_that_ends_while_our_queue_is_full_does_not_take_us_down() -> None:
    # libzmq ends a process by an assertion of its own, so the reader is a process
    ran = subprocess.run(
        [sys.executable, "-c", READER, str(ROUNDS)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([TESTS, *sys.path])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) >= 64 * ROUNDS


def test_libzmq_asks_for_no_signs_of_life() -> None:
    """Its heartbeats and a bounded queue together abort the process; TCP asks instead."""
    from contextpilot.sync.sources.kv_events.subscriber import Subscriber

    context = zmq.Context()
    try:
        made = Subscriber(zmq, context, "tcp://127.0.0.1:9", "tcp://127.0.0.1:9", "", 0, None)
        replay, watched = made.open_replay()
        for socket in (made.socket, replay):
            assert socket.getsockopt(zmq.HEARTBEAT_IVL) == 0
            assert socket.getsockopt(zmq.TCP_KEEPALIVE) == 1
            assert 0 < socket.getsockopt(zmq.RCVHWM) < 10_000
        watched.close()
        replay.close(0)
        made.close()
    finally:
        context.destroy(0)

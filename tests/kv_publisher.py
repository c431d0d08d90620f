"""A publisher of KV events as vLLM and SGLang are, and faults that a real one does not show."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import pytest

msgspec = pytest.importorskip("msgspec")
zmq = pytest.importorskip("zmq")

END = (-1).to_bytes(8, "big", signed=True)


class Publisher:
    """Publishes and replays on loopback, on a thread of its own, until `close`.

    Args:
        ports: to publish and to replay at; 0 takes a free one, None replays nothing.
        kept: messages that it can replay.
    """

    def __init__(self, ports: tuple[int, int | None] = (0, 0), kept: int = 10_000) -> None:
        self._context = zmq.Context()
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=kept)
        self._lock = threading.Lock()
        self._has_ended = False
        self.number = 0
        self.num_asked = 0
        self.answers = True
        self.pub = self._made()
        self.port = self._bind(self.pub, ports[0])
        self.replay_port: int | None = None
        self._thread: threading.Thread | None = None
        if ports[1] is not None:
            self._router = self._context.socket(zmq.ROUTER)
            self._router.setsockopt(zmq.SNDHWM, 0)
            self.replay_port = self._bind(self._router, ports[1])
            self._thread = threading.Thread(target=self._serve, daemon=True)
            self._thread.start()

    @staticmethod
    def _bind(socket: Any, port: int) -> int:
        socket.setsockopt(zmq.LINGER, 0)
        for _ in range(200):
            try:
                if port:
                    socket.bind(f"tcp://127.0.0.1:{port}")
                    return port
                return int(socket.bind_to_random_port("tcp://127.0.0.1"))
            except zmq.ZMQError:  # whoever had the port is going
                time.sleep(0.05)
        socket.context.destroy(0)
        raise OSError(f"port {port} stays taken")

    def _made(self) -> Any:
        made = self._context.socket(zmq.XPUB)
        made.setsockopt(zmq.SNDHWM, 0)
        made.setsockopt(zmq.XPUB_VERBOSE, 1)
        return made

    def is_subscribed(self, seconds: float = 30.0) -> bool:
        """Return whether a subscription came, waited for so long."""
        while self.pub.poll(seconds * 1000):
            if self.pub.recv()[:1] == b"\x01":  # 0: somebody went
                return True
        return False

    def reopen(self) -> None:
        """Bind anew after the socket was closed."""
        self.pub = self._made()
        self._bind(self.pub, self.port)

    @property
    def address(self) -> str:
        """As `--kv-events` takes it."""
        replay = f",replay=tcp://127.0.0.1:{self.replay_port}" if self.replay_port else ""
        return f"tcp://127.0.0.1:{self.port}{replay}"

    def publish(self, *events: Any, lose: bool = False, forget: bool = False) -> bytes:
        """Publish events as one message; `lose`: send it to nobody; `forget`: never replay it."""
        payload = msgspec.msgpack.encode([time.time(), list(events), 0])
        return self.send(payload, lose=lose, forget=forget)

    def send(self, payload: bytes, *, lose: bool = False, forget: bool = False) -> bytes:
        """Publish any bytes under the next number."""
        with self._lock:
            number, self.number = self.number, self.number + 1
            if not forget:
                self._kept.append((number, payload))
        if not lose:
            self.pub.send_multipart((b"", number.to_bytes(8, "big"), payload))
        return payload

    def repeat(self, number: int, payload: bytes) -> None:
        """Publish bytes under a number of before."""
        self.pub.send_multipart((b"", number.to_bytes(8, "big"), payload))

    def _serve(self) -> None:
        while not self._has_ended:
            if not self._router.poll(20):
                continue
            client, _, first = self._router.recv_multipart()
            self.num_asked += 1
            if not self.answers:
                continue
            with self._lock:
                kept = list(self._kept)
            for number, payload in kept:
                if number >= int.from_bytes(first, "big"):
                    frames = (client, b"", b"", number.to_bytes(8, "big"), payload)
                    self._router.send_multipart(frames)
            self._router.send_multipart((client, b"", b"", END, b""))

    def close(self) -> None:
        """End; the ports are free."""
        self._has_ended = True
        if self._thread is not None:
            self._thread.join()
        self._context.destroy(0)


def stored(
    hashes: Sequence[Any], tokens: Sequence[int], parent: Any = None, size: int = 4, **more: Any
) -> dict[str, Any]:
    """Return an event of blocks that came."""
    return {
        "type": "BlockStored",
        "block_hashes": list(hashes),
        "parent_block_hash": parent,
        "token_ids": list(tokens),
        "block_size": size,
        "lora_id": None,
        "medium": "GPU",
        **more,
    }


def removed(*hashes: Any, **more: Any) -> dict[str, Any]:
    """Return an event of blocks that went."""
    return {"type": "BlockRemoved", "block_hashes": list(hashes), "medium": "GPU", **more}


CLEARED = {"type": "AllBlocksCleared"}


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Return once a condition holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)

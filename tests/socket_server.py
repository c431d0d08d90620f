"""A server on a real socket that reads whole requests and answers each as a test says."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

Answer = Callable[["Connection"], bool]
"""Answers one request; returns whether the connection stays open."""


@dataclass
class Connection:
    """One connection, and the bodies that came over it."""

    socket: socket.socket
    number: int
    bodies: list[bytes] = field(default_factory=list)

    def send(self, status: int, content: Any) -> bool:
        """Answer; `content` is sent as JSON unless it is bytes."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        head = f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        self.socket.sendall(head + body)
        return True


@dataclass
class SocketServer:
    """What a test sees of the server; `answer` may be changed at any time."""

    answer: Answer
    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    num_connections: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    def jobs(self) -> list[Any]:
        """Return the jobs that were sent to be planned, without probes."""
        return [job for body in self.bodies if (job := json.loads(body)).get("contexts")]


@contextlib.contextmanager
def socket_server(answer: Answer) -> Iterator[SocketServer]:
    """Serve until the block ends; every connection has a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = SocketServer(answer, f"http://127.0.0.1:{listener.getsockname()[1]}")
    held: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                server.num_connections += 1
                held.append(sock)
                thread = threading.Thread(target=_serve, args=(server, sock))
                threads.append(thread)
                thread.start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield server
    finally:
        server.stopping.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
        for sock in held:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


def _serve(server: SocketServer, sock: socket.socket) -> None:
    connection = Connection(sock, server.num_connections)
    with sock, contextlib.suppress(OSError), sock.makefile("rb") as stream:
        while (body := _request(stream)) is not None:
            server.bodies.append(body)
            connection.bodies.append(body)
            if not server.answer(connection):
                return


def _request(stream: Any) -> bytes | None:
    length, line = 0, stream.readline()
    while line not in (b"\r\n", b""):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
        line = stream.readline()
    return stream.read(length) if line else None


def plans(*orders: list[int], **told: Any) -> dict[str, Any]:
    """Return the answer of a server that plans contexts in these orders."""
    return {
        "plans": [
            [position, order, 0, {"request_id": f"cp-{position:024x}", "reason": "cold", **told}]
            for position, order in enumerate(orders)
        ]
    }

"""What stands between a client and a server: a proxy, and TLS by a throw-away authority."""

from __future__ import annotations

import contextlib
import http.server
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme

_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the modules that import it: the environment of this machine says nothing of the way."""
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"{self.command} {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    block_on_close = False

    def handle_error(self, *_: Any) -> None:
        """A client that does not trust the server goes."""


@contextlib.contextmanager
def web_server(tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve a page that tells how it was asked for; yields the port."""
    server = _Server(("127.0.0.1", 0), _Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def authority(folder: Path, *names: str) -> Iterator[tuple[Path, ssl.SSLContext]]:
    """Make a certificate authority; yields its certificate, and what a server of `names` needs."""
    ca = trustme.CA()
    path = folder / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*names).configure_cert(context)
    yield path, context


@dataclass
class Proxy:
    """A proxy on 127.0.0.1 to whom every name is 127.0.0.1.

    Attributes:
        heads: what it was asked, line by line.
        refuses: answers CONNECT and all else with 403.
    """

    port: int = 0
    heads: list[list[str]] = field(default_factory=list)
    refuses: bool = False

    @property
    def asked(self) -> list[str]:
        """The first line of each request."""
        return [head[0] for head in self.heads]


@contextlib.contextmanager
def proxy_server() -> Iterator[Proxy]:
    """Run a proxy until the block ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = Proxy(listener.getsockname()[1])
    held: list[socket.socket] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                held.append(sock)
                threading.Thread(target=_carry, args=(proxy, sock, held), daemon=True).start()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield proxy
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for sock in held:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


def _carry(proxy: Proxy, sock: socket.socket, held: list[socket.socket]) -> None:
    with contextlib.suppress(OSError):
        while head := _head(sock):
            proxy.heads.append(head)
            method, target, _ = head[0].split()
            if proxy.refuses:
                sock.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
                continue
            if method == "CONNECT":
                beyond = _beyond(int(target.rpartition(":")[2]), held)
                sock.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                threading.Thread(target=_pump, args=(beyond, sock), daemon=True).start()
                _pump(sock, beyond)
                return
            parts = urllib.parse.urlsplit(target)
            beyond = _beyond(parts.port or 80, held)
            line = f"{method} {parts.path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            beyond.sendall(line.encode())
            answer = beyond.makefile("rb").read()
            sock.sendall(answer)


def _beyond(port: int, held: list[socket.socket]) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    held.append(sock)
    return sock


def _head(sock: socket.socket) -> list[str]:
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        piece = sock.recv(1)
        if not piece:
            return []
        data += piece
    return data.decode().rstrip("\r\n").split("\r\n")


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)

"""An index that means harm: what it answers ends, and the reporter's thread goes on."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest
from contextpilot_hooks import transport
from contextpilot_hooks.settings import Settings

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ANSWERS = {
    "trailers": (CHUNKED + b"2\r\n{}\r\n0\r\n", b"a: b\r\n" * 1000),
    "interim": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "extensions": (CHUNKED, b"1;" + b"x" * 50_000 + b"\r\na\r\n"),
    "heads": (b"HTTP/1.1 200 OK\r\n", b"a: " + b"b" * 50_000 + b"\r\n"),
    "drops": (b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", b"x"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_without_end_is_none(name, monkeypatch):
    begin, more = ANSWERS[name]
    monkeypatch.setattr(transport, "_ANSWER_S", 0.5)
    ended = threading.Event()

    def answer():
        with contextlib.suppress(OSError), server.accept()[0] as connection:
            connection.recv(1 << 16)
            connection.sendall(begin)
            while not ended.is_set():
                connection.sendall(more)
                if name == "drops":
                    time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        threading.Thread(target=answer, daemon=True).start()
        posting = transport.Transport(Settings.from_environ({"CONTEXTPILOT_INDEX_URL": url}))
        thread = threading.Thread(target=post_in_vain, args=(posting,), daemon=True)
        thread.start()
        thread.join(10)
        is_over = not thread.is_alive()
        ended.set()
        thread.join(10)
        posting.close()
    assert is_over


def post_in_vain(posting):
    with pytest.raises(transport.NotDelivered):
        posting.post(b"{}")

"""The blocking client: one deadline, one safe rule for repeating, the network's own rules."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from network import authority, no_variables, proxy_server, web_server
from socket_server import Connection, SocketServer, socket_server

from contextpilot.http.blocking import BlockingHttp, Reply

__all__ = ["no_variables"]  # a fixture that is used without being named

LIMIT_S = 20.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def call(http: BlockingHttp, timeout_s: float = LIMIT_S) -> Reply:
    return http.call("POST", "/plan", b"{}", timeout_s)


def raw(answer: bytes, stays: bool = False) -> Callable[[Connection], bool]:
    def send(connection: Connection) -> bool:
        connection.socket.sendall(answer)
        return stays

    return send


def ask(answer: Callable[[Connection], bool], timeout_s: float = LIMIT_S) -> Reply:
    with (
        socket_server(answer) as server,
        contextlib.closing(BlockingHttp(server.url, {}, 5)) as http,
    ):
        return call(http, timeout_s)


# -- whole answers, and others ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.0 200 OK\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;x=y\r\nk\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    ],
)
def test_answers_of_all_framings_are_read(answer: bytes) -> None:
    assert ask(raw(answer)) == Reply(200, b"ok")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000,
    ],
)
def test_what_is_no_whole_answer_is_a_connection_error(answer: bytes) -> None:
    with pytest.raises(ConnectionError, match=r".") as caught:
        ask(raw(answer))
    assert type(caught.value) is ConnectionError


def test_an_answer_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contextpilot.http.blocking._MAX_REPLY_BYTES", 1 << 20)

    def endless(connection: Connection) -> bool:
        connection.socket.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.socket.sendall(b"x" * (1 << 16))

    with pytest.raises(ConnectionError, match="too long"):
        ask(endless)


def test_a_redirect_is_an_answer_and_not_followed() -> None:
    moved = b"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"
    assert ask(raw(moved)).status == 307


def test_neither_a_503_nor_a_retry_after_is_asked_again() -> None:
    busy = b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
    with socket_server(raw(busy, stays=True)) as server:
        with contextlib.closing(BlockingHttp(server.url, {}, 5)) as http:
            assert http.call("GET", "/", None, LIMIT_S).status == 503
            assert call(http).status == 503
        assert len(server.bodies) == 2


# -- the deadline ----------------------------------------------------------------------------------


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"])
def test_a_head_or_a_body_that_drips_ends_with_the_call(begin: bytes) -> None:
    stop = threading.Event()

    def drip(connection: Connection) -> bool:
        connection.socket.sendall(begin)
        while not stop.wait(0.02):
            connection.socket.sendall(b"H")
        return False

    try:
        with pytest.raises(TimeoutError, match="in time"):
            ask(drip, timeout_s=0.3)
    finally:
        stop.set()


def test_a_server_that_reads_nothing_ends_with_the_call() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        http = BlockingHttp(f"http://127.0.0.1:{deaf.getsockname()[1]}", {}, 5)
        with contextlib.closing(http), pytest.raises(TimeoutError):
            http.call("POST", "/", bytes(64 << 20), 0.3)


@pytest.mark.parametrize(("shakes_hands", "told"), [(True, "in time"), (False, "no connection")])
def test_silence_behind_tls_ends_with_the_call(
    shakes_hands: bool, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        authority(tmp_path, "localhost") as (ca, tls),
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):

        def accept() -> None:
            sock = listener.accept()[0]
            with contextlib.suppress(OSError), sock:
                talk = tls.wrap_socket(sock, server_side=True) if shakes_hands else sock
                with talk:
                    while talk.recv(1 << 16):
                        pass

        thread = threading.Thread(target=accept)
        thread.start()
        monkeypatch.setenv("SSL_CERT_FILE", str(ca))
        url = f"https://localhost:{listener.getsockname()[1]}"
        with (
            contextlib.closing(BlockingHttp(url, {}, 0.5)) as http,
            pytest.raises(TimeoutError, match=told),
        ):
            call(http, 0.8)
        thread.join()


def test_nobody_there_is_told_by_the_systems_own_words() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        http = BlockingHttp(f"http://127.0.0.1:{free.getsockname()[1]}", {}, 5)
        with pytest.raises(ConnectionError, match="refused"):
            call(http)
    with pytest.raises(ConnectionError, match=r"."):
        call(BlockingHttp("http://no.such.host.invalid", {}, 5))


# -- repeating -------------------------------------------------------------------------------------


def twice(server: SocketServer) -> None:
    """Two calls, with nothing in between that shows that the connection is closed."""
    with contextlib.closing(BlockingHttp(server.url, {}, 5)) as http:
        assert call(http).status == 200
        call(http)


def test_a_kept_connection_that_closes_unread_is_repeated_on_a_new_one() -> None:
    def once_each(connection: Connection) -> bool:
        return len(connection.bodies) == 1 and connection.send(200, {})

    with socket_server(once_each) as server:
        twice(server)
        assert (len(server.bodies), server.num_connections) == (3, 2)


def test_a_reset_is_repeated_as_a_close_is() -> None:
    def reset(connection: Connection) -> bool:
        if len(connection.bodies) == 1:
            return connection.send(200, {})
        linger = struct.pack("ii", 1, 0)
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        return False

    with socket_server(reset) as server:
        twice(server)
        assert len(server.bodies) == 3


def test_what_began_to_be_answered_is_never_repeated() -> None:
    def one_byte(connection: Connection) -> bool:
        if len(connection.bodies) == 1:
            return connection.send(200, {})
        connection.socket.sendall(b"H")
        return False

    with socket_server(one_byte) as server:
        with pytest.raises(ConnectionError):
            twice(server)
        assert len(server.bodies) == 2


def test_what_a_new_connection_did_not_answer_is_never_repeated() -> None:
    with socket_server(lambda connection: False) as server:
        with (
            pytest.raises(ConnectionError),
            contextlib.closing(BlockingHttp(server.url, {}, 5)) as http,
        ):
            call(http)
        assert len(server.bodies) == 1


def test_a_connection_that_was_idle_too_long_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket_server(lambda connection: connection.send(200, {})) as server:
        with contextlib.closing(BlockingHttp(server.url, {}, 5)) as http:
            call(http), call(http)
            assert server.num_connections == 1
            monkeypatch.setattr("contextpilot.http.deadline.KEEP_ALIVE_S", 0.0)
            call(http)
        assert (len(server.bodies), server.num_connections) == (3, 2)


def test_a_forked_child_opens_a_connection_of_its_own() -> None:
    with (
        socket_server(lambda connection: connection.send(200, connection.number)) as server,
        contextlib.closing(BlockingHttp(server.url, {}, 5)) as http,
    ):
        assert call(http).body == b"1"
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(write, call(http).body)
            finally:
                os._exit(0)
        os.close(write)
        assert os.read(read, 9) == b"2"
        os.close(read)
        os.waitpid(child, 0)
        assert call(http).body == b"1"


def test_many_threads_share_one_client() -> None:
    with socket_server(lambda connection: connection.send(200, {})) as server:
        with contextlib.closing(BlockingHttp(server.url, {}, 5)) as http:
            threads = [
                threading.Thread(target=lambda: [call(http) for _ in range(5)]) for _ in range(24)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(server.bodies) == 120
        assert server.num_connections <= 24


# -- the network's own rules -----------------------------------------------------------------------


def test_a_custom_authority_is_trusted_when_named_and_not_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with authority(tmp_path, "localhost") as (ca, tls), web_server(tls) as port:
        with (
            contextlib.closing(BlockingHttp(f"https://localhost:{port}/base", {}, 5)) as http,
            pytest.raises(ConnectionError, match="CERTIFICATE_VERIFY_FAILED"),
        ):
            call(http)
        monkeypatch.setenv("SSL_CERT_FILE", str(ca))
        with contextlib.closing(BlockingHttp(f"https://localhost:{port}/base", {}, 5)) as http:
            assert call(http) == call(http) == Reply(200, b"POST /base/plan")
        with (
            contextlib.closing(BlockingHttp(f"https://127.0.0.1:{port}", {}, 5)) as other_name,
            pytest.raises(ConnectionError, match=r"127\.0\.0\.1"),
        ):
            call(other_name)


def test_a_proxy_tunnels_tls_and_carries_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        authority(tmp_path, "index.test") as (ca, tls),
        web_server(tls) as secure,
        web_server() as plain,
        proxy_server() as proxy,
    ):
        monkeypatch.setenv("SSL_CERT_FILE", str(ca))
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:word@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{proxy.port}")
        with contextlib.closing(BlockingHttp(f"https://index.test:{secure}", {}, 5)) as http:
            assert call(http) == call(http) == Reply(200, b"POST /plan")
        with contextlib.closing(BlockingHttp(f"http://index.test:{plain}", {}, 5)) as http:
            assert http.call("GET", "/health", None, LIMIT_S) == Reply(200, b"GET /health")
        methods = [(line.split()[0], line.split()[1]) for line in proxy.asked]
        assert methods == [
            ("CONNECT", f"index.test:{secure}"),
            ("GET", f"http://index.test:{plain}/health"),
        ]
        assert any("Basic dXNlcjp3b3Jk" in line for line in proxy.heads[0])
        monkeypatch.setenv("NO_PROXY", "example.com, .test")
        with (
            contextlib.closing(BlockingHttp(f"http://index.test:{plain}", {}, 5)) as http,
            pytest.raises(ConnectionError),
        ):
            call(http)  # the name is nobody's
        assert len(proxy.asked) == 2


def test_a_proxy_that_refuses_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy_server() as proxy:
        proxy.refuses = True
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        with (
            contextlib.closing(BlockingHttp("https://index.test", {}, 5)) as http,
            pytest.raises(ConnectionError, match="403"),
        ):
            call(http)


def test_this_machine_is_asked_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with web_server() as port:
        for host in ("127.0.0.1", "localhost"):
            with contextlib.closing(BlockingHttp(f"http://{host}:{port}", {}, 5)) as http:
                assert call(http).status == 200

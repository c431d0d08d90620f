"""Requests that ask for another protocol, or are framed oddly, are no other requests."""

from __future__ import annotations

import socket
import urllib.parse

import pytest
from servers import Client, Scripted, Start

UPGRADE = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAA\r\n"
)
"""As Java's client sends the first request of a connection."""
NEXT = b"GET /v1/next HTTP/1.1\r\nHost: x\r\n\r\n"
SIZED = b"Content-Length: %d\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET /v1/models HTTP/1.1\r\n"
POST = b"POST /v1/x HTTP/1.1\r\nHost: x\r\n"
SMUGGLED = b"GET /v1/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


def exchange(client: Client, pieces: list[bytes]) -> bytes:
    """Send pieces, each once the server had time to read the one before; return all answers."""
    place = urllib.parse.urlsplit(client.url)
    answers = b""
    with socket.create_connection((place.hostname or "", place.port or 0), 20) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces[:-1]:
            sock.sendall(piece)
            client.get("/health")
        before, host, after = pieces[-1].rpartition(b"Host: x")
        sock.sendall(before + host + b"\r\nConnection: close" + after)
        while chunk := sock.recv(1 << 16):
            answers += chunk
    return answers


@pytest.mark.parametrize(
    ("pieces", "bodies"),
    [
        ([UPGRADE + SIZED % 2 + b"{}", NEXT], [b"{}", b""]),
        ([UPGRADE + SIZED % 2 + b"{}" + NEXT], [b"{}", b""]),
        ([UPGRADE[:40], UPGRADE[40:] + (SIZED % 3)[:-1], b"\n{", b" }", NEXT], [b"{ }", b""]),
        ([UPGRADE + CHUNKED + b"2\r\n{}\r\n", b"0\r\n\r\n", NEXT], [b"{}", b""]),
        ([UPGRADE + SIZED % len(SMUGGLED), SMUGGLED, NEXT], [SMUGGLED, b""]),
        ([UPGRADE + b"\r\n" + NEXT], [b"", b""]),
        ([2 * (UPGRADE + SIZED % 2 + b"{}"), NEXT], [b"{}", b"{}", b""]),
        ([UPGRADE.replace(b"h2c", b"websocket") + SIZED % 1 + b"x", NEXT], [b"x", b""]),
    ],
)
def test_who_asks_for_another_protocol_is_served_in_this_one(
    start: Start, upstream: Scripted, pieces: list[bytes], bodies: list[bytes]
) -> None:
    answers = exchange(start(engine=(upstream.url,)), pieces)
    assert answers.count(b"HTTP/1.1 200 OK") == len(bodies)
    assert [seen.body for seen in upstream.seen] == bodies
    assert [seen.target for seen in upstream.seen][-1] == "/v1/next"
    assert "upgrade" not in upstream.seen[0].headers
    assert "http2-settings" not in upstream.seen[0].headers


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (GET + b"Host: x\r\nHost: evil.example", b"403"),
        (GET + b"Host: evil.example\r\nHost: x", b"400"),
        (POST + b"Transfer-Encoding: gzip, chunked", b"501"),
        (POST + b"Transfer-Encoding: chunked, chunked", b"400"),
        (POST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", b"501"),
        (POST + b"Transfer-Encoding: xchunked", b"400"),
        (POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked", b"400"),
        (POST + b"Content-Length: 2\r\nContent-Length: 12", b"400"),
        (POST + b"Content-Length:\r\n 12", b"400"),
        (POST + b"Content-Length : 12", b"400"),
        (POST + b"Content-Length: +2", b"400"),
        (POST.replace(b"\r", b"") + b"Content-Length: 2", b"400"),
        (POST.replace(b"1.1", b"2.0") + b"Content-Length: 13", b"505"),
        (b"GET http://evil.example/v1/models HTTP/1.1\r\nHost: x", b"403"),
        (b"GET http://x@evil.example:1/v1/models HTTP/1.1\r\nHost: x", b"403"),
        (b"TRACE /v1/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret", b"405"),
        (b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: x", b"400"),
        (b"CONNECT /v1/x HTTP/1.1\r\nHost: x", b"405"),
        (POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked", b"400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM", b"400"),
    ],
)
def test_what_can_be_read_in_two_ways_reaches_no_engine(
    start: Start, upstream: Scripted, head: bytes, status: bytes
) -> None:
    client = start(engine=(upstream.url,))
    place = urllib.parse.urlsplit(client.url)
    with socket.create_connection((place.hostname or "", place.port or 0), 20) as sock:
        body = b"2\r\n{}\r\n0\r\n\r\n" if head.startswith(b"POST") else b""
        sock.sendall(head + b"\r\n\r\n" + body)
        answer = sock.recv(1 << 16)
    assert answer[9:12] == status
    assert b"secret" not in answer
    assert upstream.seen == []


def test_a_target_with_an_allowed_host_is_served(start: Start, upstream: Scripted) -> None:
    client = start(engine=(upstream.url,))
    named = b"GET %b/v1/models HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    place = urllib.parse.urlsplit(client.url)
    with socket.create_connection((place.hostname or "", place.port or 0), 20) as sock:
        sock.sendall(named % client.url.encode())
        assert sock.recv(1 << 16).startswith(b"HTTP/1.1 200")
    assert upstream.last.target == "/v1/models"


def test_headers_that_gateways_take_for_framing_go_no_further(
    start: Start, upstream: Scripted
) -> None:
    client = start(engine=(upstream.url,))
    odd = {"Transfer_Encoding": "chunked", "Content_Length": "0", "Expect": "100-continue"}
    head = "".join(f"{name}: {value}\r\n" for name, value in odd.items()).encode()
    assert b"200 OK" in exchange(client, [POST + head + SIZED % 2 + b"{}"])
    assert upstream.last.body == b"{}"
    assert not {name.lower() for name in odd} & set(upstream.last.headers)

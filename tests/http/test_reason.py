"""The few words that say why nothing answers."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from contextpilot.http.connecting import UpstreamError
from contextpilot.http.reason import reason

REFUSED = "[Errno 111] Connect call failed ('::1', 8000, 0, 0)"
BROKEN = "[Errno 101] Connect call failed ('10.0.0.1', 8000)"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed"), "connection refused"),
        (OSError(f"Multiple exceptions: {REFUSED}, {REFUSED}"), "connection refused"),
        (
            OSError(f"Multiple exceptions: {REFUSED}, {BROKEN}"),
            "connection refused or network is unreachable",
        ),
        (socket.gaierror(-2, "Name or service not known"), "unknown host"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version"), "no TLS: "),
        (TimeoutError("no answer"), "no answer"),
        (OSError(), ""),
    ],
)
def test_neither_numbers_nor_addresses(error: OSError, words: str) -> None:
    told = reason(error)
    assert told == words or (words.endswith(": ") and told.startswith(words))


def test_what_a_message_says_already_is_not_said_twice() -> None:
    plain = UpstreamError(502, "not reached", ConnectionRefusedError(111, "refused"))
    assert plain.why == "not reached: connection refused"
    assert UpstreamError(502, "it answers 503").why == "it answers 503"
    over = ConnectionRefusedError(111, "refused")
    assert UpstreamError(502, f"over the proxy: {over}", over).why == f"over the proxy: {over}"

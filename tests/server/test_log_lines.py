"""Nobody waits for who reads the log."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import subprocess
import sys
import urllib.parse

import pytest
from servers import Client, free_port, wait_until

from contextpilot.server.log_lines import LineFormatter, LineHandler


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("contextpilot", logging.INFO, __file__, 0, text, None, None)


def test_lines_are_written_in_order_and_flushed() -> None:
    reader, writer = os.pipe()
    handler = LineHandler(writer)
    for number in range(100):
        handler.handle(record(f"{number} \ud800"))
    handler.flush()
    lines = os.read(reader, 1 << 16).decode().splitlines()
    assert lines == [f"{number} \\ud800" for number in range(100)]
    os.close(reader)
    handler.handle(record("nobody is there"))  # a broken pipe ends nothing
    handler.flush()
    os.close(writer)


def test_a_message_is_one_line_whatever_it_quotes() -> None:
    reader, writer = os.pipe()
    handler = LineHandler(writer)
    handler.setFormatter(LineFormatter("%(levelname)s %(message)s"))
    handler.handle(record("engine a\nERROR forged\r\x1b[2J\u2028\x85 é"))
    handler.flush()
    assert os.read(reader, 1 << 16).decode() == (
        "INFO engine a\\nERROR forged\\r\\x1b[2J\\u2028\\x85 é\n"
    )
    os.close(reader)
    os.close(writer)


def test_what_nobody_reads_is_dropped_and_counted() -> None:
    reader, writer = os.pipe()
    handler = LineHandler(writer, max_lines=10)
    for number in range(2000):
        handler.handle(record(f"{number} " + "x" * 1000))
    read, kept, dropped = b"", 0, 0
    while kept + dropped < 2000:
        read += os.read(reader, 1 << 16)
        kept = len(re.findall(rb"^\d+ x{1000}$", read, re.MULTILINE))
        dropped = sum(map(int, re.findall(rb"^(\d+) log lines were dropped", read, re.MULTILINE)))
    assert kept + dropped == 2000
    assert dropped > 0
    os.close(reader)
    os.close(writer)


def health(client: Client) -> int:
    with contextlib.suppress(OSError):
        return client.get("/health").status
    return 0


@pytest.mark.slow
@pytest.mark.parametrize("stderr", ["pipe", "closed", "full"])
def test_a_log_that_cannot_be_written_stops_nothing(stderr: str) -> None:
    port = free_port()
    command = [sys.executable, "-m", "contextpilot", "serve", "--port", str(port)]
    if stderr == "closed":
        command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *command]
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(open("/dev/full", "wb")) if stderr == "full" else None
        to = subprocess.PIPE if stderr == "pipe" else full
        process = stack.enter_context(subprocess.Popen(command, stderr=to))
        try:
            client = Client(f"http://127.0.0.1:{port}")
            wait_until(lambda: health(client) == 200)
            place = urllib.parse.urlsplit(client.url)
            for _ in range(2500):  # a line each: more than a pipe and the queue hold
                with socket.create_connection((place.hostname or "", port), 60) as connection:
                    connection.sendall(b"no HTTP\r\n\r\n")
                    connection.recv(100)
            assert health(client) == 200
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()

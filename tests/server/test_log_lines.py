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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
    handler = LineHandler(writer, max_lines=10, max_kind_bytes=1 << 30)
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


def lines_of(reader: int) -> list[str]:
    return os.read(reader, 1 << 20).decode().splitlines()


def test_of_a_kind_no_more_is_written_than_is_bounded_and_the_rest_is_counted() -> None:
    reader, writer = os.pipe()
    handler = LineHandler(writer, max_kind_bytes=100)
    for number in range(1234):
        handler.handle(record(f"no HTTP of {number:04}"))
    handler.handle(logging.LogRecord("x", logging.INFO, "other.py", 1, "other", None, None))
    handler.flush()
    *flood, other, told = lines_of(reader)
    assert flood == [f"no HTTP of {number:04}" for number in range(7)]  # 16 bytes each
    assert other == "other"
    assert told == "1227 more lines like this one were left out: no HTTP of 0007"
    handler.handle(record("anew"))
    handler.flush()
    assert lines_of(reader) == ["anew"]
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("goes_on", [True, False])
def test_what_was_left_out_is_told_when_the_window_ends(goes_on: bool) -> None:
    reader, writer = os.pipe()
    handler = LineHandler(writer, max_kind_bytes=1, window_s=0.2)
    read = ""
    for _ in range(3):
        handler.handle(record("flood"))
    while "flood\n" not in read.partition("left out")[2]:
        if goes_on:
            handler.handle(logging.LogRecord("x", logging.INFO, "x.py", 1, "y", None, None))
        with contextlib.suppress(BlockingIOError):
            os.set_blocking(reader, False)
            read += os.read(reader, 1 << 20).decode()
    assert "2 more lines like this one were left out: flood\n" in read
    handler.flush()  # else it would write into whatever has this number then
    os.close(reader)
    os.close(writer)


def test_tracebacks_count_with_all_their_lines() -> None:
    reader, writer = os.pipe()
    handler = LineHandler(writer, max_kind_bytes=5_000)
    for _ in range(100):
        try:
            raise ValueError("x" * 1000)
        except ValueError:
            failed = logging.LogRecord("x", 40, "x.py", 1, "failed", None, sys.exc_info())
        handler.handle(failed)
    handler.flush()
    assert len(os.read(reader, 1 << 20)) < 10_000
    os.close(reader)
    os.close(writer)


def health(client: Client) -> int:
    with contextlib.suppress(OSError):
        return client.get("/health").status
    return 0


def full_pipe() -> tuple[int, int]:
    """Return both ends of a pipe that takes nothing more."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    return reader, writer


@contextlib.contextmanager
def served(stderr: Any, *arguments: str, shell: str = 'exec "$@"') -> Iterator[Client]:
    """Run a server whose standard error leads there; it ends as it should."""
    port = free_port()
    command = [sys.executable, "-m", "contextpilot", "serve", "--port", str(port), *arguments]
    with subprocess.Popen(["sh", "-c", shell, "sh", *command], stderr=stderr) as process:
        try:
            client = Client(f"http://127.0.0.1:{port}")
            wait_until(lambda: health(client) == 200)
            yield client
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()


def send_no_http(client: Client, times: int) -> None:
    place = urllib.parse.urlsplit(client.url)
    for _ in range(times):
        with socket.create_connection((place.hostname or "", place.port or 0), 60) as connection:
            connection.sendall(b"no HTTP\r\n\r\n")
            connection.recv(100)


@pytest.mark.slow
@pytest.mark.parametrize("stderr", ["pipe", "closed", "full"])
def test_a_log_that_cannot_be_written_stops_nothing(stderr: str) -> None:
    with contextlib.ExitStack() as stack:
        to: Any = None
        if stderr == "full":
            to = stack.enter_context(open("/dev/full", "wb"))
        elif stderr == "pipe":
            reader, to = full_pipe()
            stack.callback(os.close, reader)
            stack.callback(os.close, to)
        shell = 'exec "$@" 2>&-' if stderr == "closed" else 'exec "$@"'
        client = stack.enter_context(served(to, shell=shell))
        send_no_http(client, 300)
        assert health(client) == 200


def test_a_stranger_fills_no_disk_with_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as to, served(to) as client:
        send_no_http(client, 1_000)
    invalid = [line for line in log.read_text().splitlines() if "Invalid HTTP" in line]
    assert sum(map(len, invalid)) < 20_000
    (told,) = re.findall(r"(\d+) more lines like this one were left out", invalid[-1])
    assert len(invalid) - 1 + int(told) == 1_000

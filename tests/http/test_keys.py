"""Keys as files and variables hold them: a line end is no part of one, and none is shown."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from contextpilot import ContextPilot
from contextpilot.bench.engine import key_header
from contextpilot.client import Client
from contextpilot.errors import UnreachableError
from contextpilot.http.blocking import BlockingHttp
from contextpilot.http.pooled import Upstream
from contextpilot.server.settings import load_settings

SECRET = "canary-7f3a"
TOKEN, ENGINE_KEY = "CONTEXTPILOT_INDEX_TOKEN", "CONTEXTPILOT_ENGINE_KEY"
NOBODY = "http://127.0.0.1:9"


def test_a_line_end_is_no_part_of_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings({}, {TOKEN: f"{SECRET}\n", "CONTEXTPILOT_UPSTREAM_KEY": "key\r\n"})
    assert (settings.index_token, settings.upstream_key) == (SECRET, "key")
    monkeypatch.setenv(ENGINE_KEY, "key\n")
    assert key_header(ENGINE_KEY) == [(b"authorization", b"Bearer key")]


@pytest.mark.parametrize("key", [f"{SECRET}\nX-Evil: 1", f"{SECRET}\x00", f"{SECRET}é"])
def test_what_no_header_holds_is_refused_and_not_shown(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(make: Any) -> None:
        with pytest.raises(ValueError, match="one line of printable ASCII") as error:
            make()
        assert SECRET not in str(error.value)

    check(lambda: load_settings({"index_token": key}, {}))
    check(lambda: load_settings({"index_token": "t", "upstream_key": key}, {}))
    check(lambda: Client(NOBODY, token=key))
    if "\x00" not in key:
        monkeypatch.setenv(TOKEN, key)
        monkeypatch.setenv(ENGINE_KEY, key)
        check(lambda: ContextPilot(index_url=NOBODY))
        check(lambda: key_header(ENGINE_KEY))


def test_a_token_with_a_line_end_is_in_no_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(TOKEN, f"{SECRET}\n")
    with caplog.at_level(logging.DEBUG):
        ContextPilot(index_url=NOBODY).reorder(["a text", "another text"])
        with Client(NOBODY) as client, pytest.raises(UnreachableError) as error:
            client.health()
    assert "planning here" in caplog.text
    assert SECRET not in caplog.text + str(error.value)


def test_a_header_that_cannot_be_sent_is_not_shown() -> None:
    http = BlockingHttp(NOBODY, {"Authorization": f"Bearer {SECRET}\n"}, 1)
    with pytest.raises(OSError, match="cannot be sent") as error:
        http.call("GET", "/", None, 1)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("end", [b"\r\nX-Evil: 1", b"\n", b"\r"])
def test_a_header_never_becomes_two(end: bytes) -> None:
    heard: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())
        writer.close()

    async def send() -> None:
        server = await asyncio.start_server(hear, "127.0.0.1", 0)
        upstream = Upstream(5, 5)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(ValueError, match="line break") as error:
            async with upstream.open("GET", url, [(b"authorization", SECRET.encode() + end)], b""):
                pass
        assert SECRET not in str(error.value)
        upstream.close()
        server.close()
        await asyncio.sleep(0.1)

    asyncio.run(send())
    assert not any(heard)

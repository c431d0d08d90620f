"""What the server says at its start: real servers in this process, before engines of any state."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator

import pytest
from servers import Scripted, free_port, serving, wait_until

from contextpilot.server.greeting import address_for_clients
from contextpilot.server.run import make_server
from contextpilot.server.settings import Settings


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, "contextpilot.server"):
        yield caplog


def greeted(told: pytest.LogCaptureFixture, last: str, **settings: object) -> tuple[str, list[str]]:
    """Start a server; return its URL and what it said until it said `last`."""
    told.clear()
    server = make_server(Settings(port=0, **settings))  # type: ignore[arg-type]
    with serving(server) as url:
        wait_until(lambda: any(last in line for line in told.messages))
        warnings = [r.getMessage() for r in told.records if r.levelno == logging.WARNING]
        return url, [*told.messages, *(f"warning: {text}" for text in warnings)]


def test_without_an_engine_it_is_an_index_only(told: pytest.LogCaptureFixture) -> None:
    url, lines = greeted(told, "index only")
    assert any(f"listens at {url}; dashboard: {url}/" in line for line in lines)
    (line,) = [line for line in lines if "index only" in line]
    assert f"ContextPilot(index_url='{url}')" in line
    assert "--engine URL" in line


def test_engines_are_named_with_kind_state_and_sync(told: pytest.LogCaptureFixture) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    upstream = Scripted(asides={"/version": {"version": "0.32.0"}})
    with serving(upstream) as engine:
        url, lines = greeted(told, "does not answer yet", engine=(engine, dead), kind="vllm")
    assert any(f"base URL for OpenAI clients: {url}/v1" in line for line in lines)
    (up,) = [line for line in lines if "sync is off" in line]
    assert f"engine {engine[7:]} (vllm) answers" in up
    assert f"CONTEXTPILOT_INDEX_URL={url}" in up
    assert any(f"warning: engine {dead[7:]} does not answer yet" in line for line in lines)


def test_what_is_misspelt_open_or_switched_off_is_a_warning(
    told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTEXTPILOT_INDX_URL", "x")
    _, lines = greeted(told, "nothing reads", host="0.0.0.0", open_index=True, mode="off")
    warnings = [line for line in lines if line.startswith("warning: ")]
    assert any("did you mean CONTEXTPILOT_INDEX_URL?" in line for line in warnings)
    assert any("--open-index requires no token" in line for line in warnings)
    assert any("nothing is planned: mode is off" in line for line in warnings)
    _, lines = greeted(told, "require the index token", host="0.0.0.0", index_token="t")
    assert not any("--open-index" in line for line in lines)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:1"),
        ("::1", "http://[::1]:1"),
        ("0.0.0.0", f"http://{socket.gethostname()}:1"),
    ],
)
def test_the_address_is_one_that_clients_can_use(host: str, url: str) -> None:
    assert address_for_clients(host, 1) == url

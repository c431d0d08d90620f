"""The way in: shortcuts answer as FastAPI's routes do; bodies are bounded; clients may leave."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from fastapi import FastAPI
from servers import Client, Start, serving, wait_until

from contextpilot.server.app import create_app
from contextpilot.server.index_api import router as api
from contextpilot.server.index_api.body_routes import shortcuts
from contextpilot.server.settings import Settings

BODIES: list[tuple[str, Any]] = [
    ("/reorder", {"contexts": [["é", "b"], ["b", "\U0001f600"]], "stateless": True}),
    ("/reorder", {"contexts": [{"id": 1}, {"text": "b", "own": [1]}], "stateless": True}),
    ("/reorder", {"contexts": [1, "b"]}),
    ("/reorder", {"contexts": ["a"], "pin_first": -1}),
    ("/reorder", {"contexts": [{}]}),
    ("/reorder", [1]),
    ("/optimize", {"contexts": ["a"]}),
    ("/optimize_batch", {"all_contexts": [["a"]], "queries": []}),
    ("/evict", {"request_ids": ["unknown"]}),
    ("/sync", {"version": 2}),
    ("/reset", {"namespace": "nobody's"}),
]


def without_ids(content: Any) -> Any:
    return {name: value for name, value in content.items() if name != "request_ids"}


def test_the_short_way_answers_as_the_long_way(start: Start) -> None:
    outer = FastAPI()
    outer.mount("/under", create_app(Settings()))  # its paths match no shortcut
    short = start()
    with serving(outer) as url:
        long = Client(url)
        for path, body in BODIES:
            direct, routed = short.post(path, body), long.post("/under" + path, body)
            assert direct.status == routed.status, path
            assert without_ids(direct.json()) == without_ids(routed.json()), path
        for headers in ({}, {"Content_Type": "text/plain"}):
            assert short.request("POST", "/reorder", b"{}", **headers).status == 415
    assert short.get("/reorder").status == 405


def test_every_post_of_the_index_api_has_a_shortcut() -> None:
    app = create_app(Settings())
    posts = {path for path, methods in app.openapi()["paths"].items() if methods.keys() == {"post"}}
    assert shortcuts(api.router, app).keys() == posts


def test_a_body_too_large_is_refused(start: Start) -> None:
    client = start(max_body_bytes=1000)
    reply = client.post("/reorder", {"contexts": ["x" * 1000]})
    assert reply.status == 413
    assert "max_body_bytes" in reply.json()["error"]["message"]
    assert client.post("/reorder", {"contexts": ["x"]}).status == 200


def test_a_client_may_leave_while_it_sends(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    client = start()
    host, _, port = client.url.rpartition("/")[2].partition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /reorder HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        wait_until(lambda: client.get("/health").status == 200)
    for _ in range(3):
        assert client.post("/reorder", {"contexts": ["a"]}).status == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]

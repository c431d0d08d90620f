"""Sides of different ages: hooks of today, and indexes of the last and the next schema."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from contextpilot_hooks.ledger import Ledger, Mark
from contextpilot_hooks.reporter import Reporter
from contextpilot_hooks.settings import Engine, Settings

import contextpilot as cp
from contextpilot.block import Block
from contextpilot.jobs import encode_job
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import NO_HEAD
from contextpilot.planning import Job
from contextpilot.sync.events import VERSION, answer_message, parse_message

TEXTS = [f"{word} " * 40 for word in ("alpha", "beta", "gamma")]
NEXT = VERSION + 1


class Index:
    """An index of another age: refuses what is newer than it, answers as its age does."""

    def __init__(self, version: int, answer: dict[str, Any]) -> None:
        self.messages: list[dict[str, Any]] = []
        index = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                message = json.loads(self.rfile.read(int(self.headers["content-length"])))
                is_known = message["version"] <= version
                if is_known:
                    index.messages.append(message)
                body = json.dumps(answer if is_known else {"detail": "version"}).encode()
                self.send_response(200 if is_known else 400)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def told(url: str, *, sparse: bool = False) -> Reporter:
    """A reporter that said what there is to say, without its thread."""
    settings = Settings.from_environ({"CONTEXTPILOT_INDEX_URL": url})
    reporter = Reporter(Ledger(), settings, Engine("e", "vllm", "1", 16, 0, sparse))
    reporter.ledger.on_change = lambda: None
    reporter._stop.wait = lambda timeout=None: False  # type: ignore[method-assign]
    points = ((16, 16), (64, 64)) if sparse else None
    reporter.ledger._mark("cp-1", Mark(64, 96, points))
    for _ in range(6):
        message = reporter._next_message(heartbeat=False)
        if message is not None:
            reporter._deliver(message)
    reporter._transport.close()
    return reporter


AGES = {
    "first": (1, {"status": "ok"}),
    "last": (VERSION - 1, {"status": "ok", "version": VERSION - 1}),
    "same": (VERSION, answer_message("ok")),
    "next": (NEXT, {**answer_message("ok"), "version": NEXT, "advice": {"of": "the next"}}),
    "no number": (VERSION, {"status": "ok", "version": "4.0"}),
}


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("age", AGES)
def test_hooks_of_today_speak_to_an_index_of_any_age(age: str, sparse: bool) -> None:
    version, answer = AGES[age]
    index = Index(version, answer)
    try:
        reporter = told(index.url, sparse=sparse)
    finally:
        index.close()
    assert index.messages
    assert all(message["version"] <= min(version, VERSION) for message in index.messages)
    for message in index.messages:
        parse_message(message)  # what is written for an older index is understood by today's
    events = [event for message in index.messages for event in message["events"]]
    assert any(event["request"] == "cp-1" for event in events)
    if sparse and version < VERSION:  # it knows no points: told of nothing that it could misread
        assert {event["tokens"] for event in events} == {0}
        assert not any("points" in event for event in events)
    else:
        assert max(event["tokens"] for event in events) == 64
    assert not reporter._backlog


@pytest.fixture
def pilot() -> Iterator[cp.ContextPilot]:
    with cp.ContextPilot(listen="127.0.0.1:0") as listening:
        yield listening


def post(pilot: cp.ContextPilot, **members: Any) -> tuple[int, Any]:
    message = {"engine": "e", "epoch": "1", "seq": 0, "events": [], **members}
    address = (pilot.index_url or "").removeprefix("http://")
    with contextlib.closing(HTTPConnection(address, timeout=20)) as connection:
        connection.request("POST", "/sync", json.dumps(message))
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())


def test_an_index_of_today_understands_hooks_of_the_next_schema(pilot: cp.ContextPilot) -> None:
    request = pilot.optimize(TEXTS, "q", namespace="default").request_id
    event = {"event": "cached", "request": request, "tokens": 400, "tier": "disk", "ttl": 3}
    status, answer = post(pilot, version=NEXT, events=[event], region="eu")
    assert status == 400  # refused as a whole: half of it could be believed too much
    assert f"1 to {VERSION}" in json.dumps(answer)
    assert "e" not in pilot.engines()
    # the next hooks come down to what today's index says that it knows, members and all
    status, answer = post(pilot, version=VERSION, snapshot=True, events=[event], region="eu")
    assert (status, answer) == (200, {"status": "ok", "version": VERSION})
    assert pilot.engines()["e"]["sync"] == "exact"
    assert pilot.explain(pilot.optimize(TEXTS, "q", namespace="default")).matched_blocks == 3


def test_a_message_of_the_next_schema_makes_what_was_told_doubtful(pilot: cp.ContextPilot) -> None:
    assert post(pilot, version=VERSION, snapshot=True)[0] == 200
    assert post(pilot, version=NEXT, seq=1, events=[{"event": "moved"}])[0] == 400
    assert pilot.engines()["e"]["sync"] == "approximate"
    assert post(pilot, version=VERSION, seq=2)[1]["status"] == "resync"


@pytest.mark.parametrize(("cost", "anchor"), [(0, "none"), (25, "moved")])
def test_jobs_name_anchors_that_older_indexes_know(cost: int, anchor: str) -> None:
    context = [Block(key, "", 10, None) for key in range(3)]
    job = Job("", [context], Bounds(displacement_cost=cost), NO_HEAD, [0])
    assert encode_job(job)["bounds"]["anchor"] == anchor

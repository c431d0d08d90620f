"""`POST /sync` takes all that the event schema has, and doubts an engine that it cannot read."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from servers import Client, Start

from contextpilot.server.index_api.schemas import SyncBody
from contextpilot.sync.events import MAX_NAME_CHARS, VERSION, SyncMessage


def message(seq: int, events: list[Any], **more: Any) -> dict[str, Any]:
    head = {"version": VERSION, "engine": "e", "epoch": "a", "seq": seq}
    return {**head, "events": events, **more}


def state(client: Client) -> str:
    return str(client.get("/health").json()["sync"]["e"]["sync"])


def test_no_field_of_the_schema_is_dropped_on_the_way() -> None:
    told = {field.name for field in fields(SyncMessage)} - {"slot_events"}
    assert SyncBody.model_fields.keys() - {"version"} == told


def test_every_version_is_taken_and_no_later_one(start: Start) -> None:
    client = start()
    request = client.post("/reorder", {"contexts": ["a" * 400, "b" * 400]}).json()["request_ids"][0]
    for version in range(1, VERSION + 1):
        event = {"event": "cached", "request": request, "tokens": 200}
        body = message(version - 1, [event], version=version)
        assert client.post("/sync", body).json() == {"status": "ok", "version": VERSION}
    for version in (0, VERSION + 1, True, "1", None):
        assert client.post("/sync", message(9, [], version=version)).status == 422


@pytest.mark.parametrize(
    "event",
    [
        {"event": "cached", "request": "r", "tokens": 10**400},
        {"event": "cached", "request": "r" * (MAX_NAME_CHARS + 1), "tokens": 1},
        {"event": "vanished"},
        None,
    ],
)
def test_who_cannot_be_read_is_not_believed_until_its_next_snapshot(
    start: Start, event: Any
) -> None:
    client = start()
    assert client.post("/sync", message(0, [], snapshot=True)).status == 200
    assert state(client) == "exact"
    assert client.post("/sync", message(1, [event], epoch="another")).status == 422
    assert state(client) == "exact"  # who does not know the epoch is not heard
    assert client.post("/sync", message(1, [event])).status == 422
    assert state(client) != "exact"
    assert client.post("/sync", message(1, [])).json()["status"] == "resync"
    assert client.post("/sync", message(2, [], snapshot=True)).json()["status"] == "ok"
    assert state(client) == "exact"


def test_names_have_a_bound(start: Start) -> None:
    client = start()
    for name in ("engine", "epoch", "kind", "engine_version"):
        reply = client.post("/sync", message(0, [], **{name: "x" * (MAX_NAME_CHARS + 1)}))
        assert reply.status == 422, name
    assert client.get("/health").json()["sync"] == {}

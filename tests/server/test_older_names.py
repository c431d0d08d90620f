"""Clients of the reference implementation's API are told what things are called here."""

from __future__ import annotations

import pytest
from conftest import Start

from contextpilot.server.older_names import FIELDS, PATHS


def test_older_endpoints_are_named_with_ours(start: Start) -> None:
    client = start()
    for path, today in PATHS.items():
        reply = client.post(path, {})
        assert reply.status == 404
        assert today in reply.json()["error"]["message"]
    paths = client.get("/openapi.json").json()["paths"]
    assert {today.split()[1].rstrip(",") for today in PATHS.values()} <= paths.keys()
    assert client.post("/nothing", {}).json()["error"]["message"] == "Not Found"


@pytest.mark.parametrize("field", sorted(FIELDS))
def test_older_fields_are_named_with_ours(field: str, start: Start) -> None:
    bodies = {"all_docs": "/optimize_batch", "all_queries": "/optimize_batch"}
    path = bodies.get(field, "/reorder")
    body = {"contexts": ["a"], field: 1}
    if path != "/reorder":
        body = {"all_contexts": [["a"]], "queries": ["q"], field: 1}
    error = start().post(path, body).json()["error"]
    assert error["field"] == field
    assert FIELDS[field] in error["message"]


def test_an_older_client_still_evicts_and_resets(start: Start) -> None:
    client = start()
    assert client.post("/evict", {"request_ids": ["req-1"]}).json()["status"] == "ok"
    assert client.post("/reset", {}).json()["status"] == "ok"

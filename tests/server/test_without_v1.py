"""Clients whose base URL lacks /v1 are told so, and not to give a token."""

from __future__ import annotations

import pytest
from conftest import Start

PATHS = ["/chat/completions", "/completions/", "/responses", "/messages", "/embeddings", "/models"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("token", ["", "secret"])
def test_a_base_url_without_v1_is_named(path: str, token: str, start: Start) -> None:
    client = start(index_token=token)
    reply = client.get(path) if path == "/models" else client.post(path, {})
    assert reply.status == 404
    message = reply.json()["error"]["message"]
    assert message.startswith(f"there is no {path}: ")
    assert "base URL ends in /v1" in message

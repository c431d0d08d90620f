"""Fixtures of the server's tests: our server and a scripted upstream, both on real sockets."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from servers import Client, Scripted, Start, serving

from contextpilot.server.run import make_server
from contextpilot.server.settings import Settings


@pytest.fixture
def upstream() -> Iterator[Scripted]:
    """An upstream that answers as the test tells it."""
    scripted = Scripted()
    with serving(scripted) as url:
        scripted.url = url
        yield scripted


@pytest.fixture
def start() -> Iterator[Start]:
    """`start(engine=(url,), ...)`: run our server with these settings; returns a client of it."""
    with contextlib.ExitStack() as stack:

        def run(**settings: object) -> Client:
            server = make_server(Settings(**{"port": 0, "kind": "other", **settings}))
            return Client(stack.enter_context(serving(server)))

        yield run


@pytest.fixture
def proxy(upstream: Scripted, start: Start) -> Client:
    """Our server in front of the scripted upstream."""
    return start(engine=(upstream.url,))

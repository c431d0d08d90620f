"""Fixtures: servers and command lines, and a kind of engine that the library has no file for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

for _room in ("server", "commands", "bench"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / _room))

from made_up import FOUNDRY, Foundry  # noqa: E402
from runner import Runner  # noqa: E402
from servers import Client, serving  # noqa: E402

from contextpilot.engines import registry  # noqa: E402
from contextpilot.server.run import make_server  # noqa: E402
from contextpilot.server.settings import Settings  # noqa: E402


@pytest.fixture
def foundry() -> Iterator[Foundry]:
    """A kind that is registered while the test runs."""
    registry.register(FOUNDRY)
    yield FOUNDRY
    registry.unregister(FOUNDRY)


@pytest.fixture
def start() -> Iterator[Callable[..., Client]]:
    """`start(engine=(url,), ...)`: run our server with these settings; returns a client of it."""
    with ExitStack() as stack:

        def run(**settings: object) -> Client:
            server = make_server(Settings(**{"port": 0, **settings}))
            return Client(stack.enter_context(serving(server)))

        yield run


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Runner:
    """`run("bench", ...)`: run a command line in this process."""
    return Runner(capsys)

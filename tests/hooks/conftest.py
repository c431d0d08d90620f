"""Every test starts without our registry and variables, and a swallowed error fails it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from contextpilot_hooks import importhook
from receiver import Receiver


class _Swallowed(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.errors.append(record.getMessage())


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("INDEX_URL", "INDEX_TOKEN", "ENGINE_ID"):
        monkeypatch.delenv(f"CONTEXTPILOT_{name}", raising=False)
    importhook.reset()
    yield
    importhook.reset()


@pytest.fixture(autouse=True)
def swallowed(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Errors that a guard kept from the host; mark the test `swallows` where it wants them."""
    handler, logger = _Swallowed(), logging.getLogger("contextpilot.hooks")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.DEBUG)
    yield handler.errors
    logger.removeHandler(handler)
    logger.setLevel(level)
    if request.node.get_closest_marker("swallows") is None:
        assert not handler.errors, handler.errors


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "swallows: our code fails on purpose in this test")

"""Settings of every test: no deadline on generated examples, no variables of ours."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "contextpilot", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("contextpilot")


_OF_THE_TESTS = ("CONTEXTPILOT_ENGINES_DIR", "CONTEXTPILOT_REQUIRE_ENGINES")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("CONTEXTPILOT_") and name not in _OF_THE_TESTS:
            monkeypatch.delenv(name)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes several seconds")

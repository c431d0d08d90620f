"""Settings of every test: no deadline on generated examples, no variables of ours."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "contextpilot", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("contextpilot")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CONTEXTPILOT_")]:
        monkeypatch.delenv(name)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes several seconds")

"""Settings of every test: generated examples have no deadline, since machines are shared."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "contextpilot", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("contextpilot")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes several seconds")

"""Fixtures for tests against real engines.

Where an engine is absent its tests are skipped with the command that sets it up;
`CONTEXTPILOT_REQUIRE_ENGINES=1` turns these skips into failures.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from requirement import absent

ENGINE_SCRIPTS = Path(__file__).resolve().parents[2] / "scripts" / "engines"
sys.path.insert(0, str(ENGINE_SCRIPTS))

from environments import Environment, environment  # noqa: E402


@pytest.fixture(scope="session")
def required() -> Callable[[bool, str], None]:
    """`required(condition, reason)`: skip (or fail) with the reason unless the condition holds."""

    def check(condition: bool, reason: str) -> None:
        if not condition:
            absent(reason)

    return check


@pytest.fixture(scope="session")
def engine() -> Callable[[str], Environment]:
    """`engine("sglang")`: the set-up environment of an engine; skips (or fails) if absent."""

    def find(name: str) -> Environment:
        found = environment(name)
        if not found.is_current():
            absent(f"{name} is not set up; run: python scripts/engines/setup.py {name}")
        return found

    return find

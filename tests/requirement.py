"""Skips what a machine has not got; CI requires everything, so there it fails instead."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

ENGINES = "CONTEXTPILOT_REQUIRE_ENGINES"
CROSS_COMPILER = "CONTEXTPILOT_REQUIRE_CROSS_COMPILER"
_REQUIRED = {name for name in (ENGINES, CROSS_COMPILER) if os.environ.get(name) == "1"}


def absent(reason: str, variable: str = ENGINES) -> NoReturn:
    """Skip, or fail where the environment sets `variable` to 1; the reason says what to install."""
    if variable in _REQUIRED:
        pytest.fail(f"{reason} ({variable}=1 forbids skipping)")
    pytest.skip(reason)

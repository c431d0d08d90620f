"""Skips what a machine has not got; CI requires everything, so there it fails instead."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

_IS_REQUIRED = os.environ.get("CONTEXTPILOT_REQUIRE_ENGINES") == "1"  # some tests run without it


def absent(reason: str) -> NoReturn:
    """Skip, or fail where `CONTEXTPILOT_REQUIRE_ENGINES=1`; the reason says what to install."""
    if _IS_REQUIRED:
        pytest.fail(f"{reason} (CONTEXTPILOT_REQUIRE_ENGINES=1 forbids skipping)")
    pytest.skip(reason)

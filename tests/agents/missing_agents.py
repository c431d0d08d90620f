"""What is said of an agent that is not installed."""

from __future__ import annotations

from typing import NoReturn

import pytest
from requirement import absent


def is_missing(install: str, stack: str) -> NoReturn:
    """Skip what is not installed; CI fails where scripts/stacks.py brings it."""
    if stack:
        absent(f"{install}, or: python scripts/stacks.py {stack}")
    pytest.skip(f"{install}, and name its folder in AGENTS_PATH")

"""The shim's tests compile it; without a compiler they are skipped with that reason."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import shim_build
from slot_driver import Driver
from slot_index import SlotIndex


@pytest.fixture(scope="session", autouse=True)
def toolchain() -> None:
    """The driver is a Linux program; macOS is covered by what is cross-compiled."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the driver preloads the shim as Linux does")
    if shim_build.compiler() is None:
        pytest.skip("no C++ compiler: install g++ or clang++")


@pytest.fixture
def index() -> Iterator[SlotIndex]:
    """A healthy index."""
    with SlotIndex() as running:
        yield running


@pytest.fixture
def start() -> Iterator[Callable[..., Driver]]:
    """`start(url, sanitizers="", NAME=value)`: a running driver with context 0 in use."""
    with ExitStack() as running:
        yield lambda url, sanitizers="", **variables: running.enter_context(
            Driver(url, sanitizers, **variables)
        ).open()

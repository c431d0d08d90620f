"""The shim's tests compile it; without a compiler they are skipped with that reason."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import shim_build
from requirement import absent
from slot_driver import Driver
from slot_index import SlotIndex


@pytest.fixture(scope="session")
def toolchain() -> None:
    """The driver is a Linux program; macOS is covered by what is cross-compiled."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the driver preloads the shim as Linux does")
    if shim_build.compiler() is None:
        absent("no C++ compiler: install g++ or clang++")


@pytest.fixture
def index(toolchain: None) -> Iterator[SlotIndex]:
    """A healthy index."""
    with SlotIndex() as running:
        yield running


@pytest.fixture
def start(toolchain: None) -> Iterator[Callable[..., Driver]]:
    """`start(url, sanitizers="", arguments=(), NAME=value)`: a driver with context 0 in use."""
    with ExitStack() as running:
        yield lambda *where, **how: running.enter_context(Driver(*where, **how)).open()


@pytest.fixture(params=["", "address,undefined", "thread"], ids=lambda name: name or "preloaded")
def sanitizers(request: pytest.FixtureRequest, toolchain: None) -> str:
    """How the shim is compiled; skipped where the compiler lacks the sanitizer's library."""
    name: str = request.param
    try:
        shim_build.driver(name)
    except shim_build.BuildError as error:
        if not name or "cannot find" not in str(error):
            raise
        absent(f"this compiler has no library for -fsanitize={name}")
    return name

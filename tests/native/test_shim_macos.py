"""The library for macOS, cross-compiled: what dyld would do with it, read from the file."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import macho
import pytest
import shim_build
from requirement import CROSS_COMPILER, absent

TARGETS = {"arm64": "aarch64-macos.13.0", "x86_64": "x86_64-macos.13.0"}
HOOKS = frozenset(re.findall(r"X\((llama_\w+)\)", (shim_build.NATIVE / "interpose.h").read_text()))


@pytest.fixture(scope="module", params=TARGETS)
def library(request: pytest.FixtureRequest) -> macho.Library:
    if importlib.util.find_spec("ziglang") is None:
        absent("no cross compiler: pip install '.[dev]'", CROSS_COMPILER)
    made: Path = shim_build.folder() / f"libcontextpilot_llama-{request.param}.dylib"
    # `zig c++` would first compile all of libc++, for minutes, and link it in.
    shim_build.compile_with(
        [sys.executable, "-m", "ziglang", "cc", "-x", "c++", "-target", TARGETS[request.param]],
        *("-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", *shim_build.SHIM_FLAGS),
        *("-nostdinc++", "-nostdlib++", "-shared", "-undefined", "dynamic_lookup"),
        *("-Wl,-install_name,@rpath/libcontextpilot_llama.dylib", "-o", made),
        shim_build.SHIM_SOURCE,
    )
    found = macho.read(made)
    assert found.cpu == request.param
    return found


def test_each_pair_leads_from_llama_to_our_function(library: macho.Library) -> None:
    section = library.sections["__DATA,__interpose"]
    words = library.pointers("__DATA,__interpose")
    assert len(words) == 2 * len(HOOKS)
    imports = {bind.address: bind for bind in library.binds}
    pairs = {}
    for place in range(0, section.size, 16):
        replacement = library.functions[words[place // 8]]
        pairs[imports[section.address + place + 8].symbol] = replacement
    assert pairs == {f"_{name}": f"_contextpilot_{name}" for name in HOOKS}


def test_llama_stays_an_import_that_may_be_absent(library: macho.Library) -> None:
    imported = {bind.symbol: bind for bind in library.binds if "llama" in bind.symbol}
    assert {f"_{name}" for name in HOOKS} <= set(imported)
    for bind in imported.values():
        assert (bind.library, bind.weak) == (macho.FLAT_LOOKUP, True), bind


def test_nothing_is_imposed_on_the_process(library: macho.Library) -> None:
    ours, of_the_linker = {"_contextpilot_llama_reports"}, {"__mh_dylib_header", "___dso_handle"}
    assert library.exported - of_the_linker == ours
    assert not library.weak_definitions
    assert not library.flags & (macho.WEAK_DEFINES | macho.BINDS_TO_WEAK)
    assert library.libraries == ("/usr/lib/libSystem.B.dylib",)


def test_the_list_of_hooks_is_what_linux_defines() -> None:
    if shim_build.compiler() is None:
        absent("no C++ compiler: install g++ or clang++")
    assert len(HOOKS) >= 25
    assert shim_build.defined_functions(shim_build.shim()) == HOOKS

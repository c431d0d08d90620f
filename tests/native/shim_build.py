"""Compiles the shim, the stand-in for libllama and the driver, as the tests need them."""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
NATIVE = HERE.parents[1] / "native"
SHIM_SOURCE = NATIVE / "contextpilot_llama.cpp"
WARNINGS = ["-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{NATIVE}"]
SHIM_FLAGS = ["-fvisibility=hidden", "-fno-exceptions", "-fno-rtti"]
LINK = ["-Wl,--as-needed", "-pthread", "-ldl"]


class BuildError(Exception):
    """The compiler refused; the text is what it said."""


def compiler() -> str | None:
    """The C++ compiler, or None."""
    return next(
        (found for name in ("g++", "clang++", "c++") if (found := shutil.which(name))), None
    )


def compile_with(command: list[str], *arguments: str | Path) -> None:
    """Run a compiler; raise BuildError with its output."""
    done = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BuildError(f"{command[0]} failed:\n{done.stdout}{done.stderr}"[:4000])


@functools.cache
def folder() -> Path:
    """Where this process builds; removed when it ends."""
    made = tempfile.mkdtemp(prefix="contextpilot-native-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


@functools.cache
def fake_llama() -> Path:
    """The stand-in for libllama."""
    library = folder() / "libfake_llama.so"
    source = HERE / "fake_llama.cpp"
    compile_with([_cxx(), *WARNINGS, "-O1", "-g"], "-fPIC", "-shared", "-o", library, source)
    return library


@functools.cache
def shim(cxx: str | None = None) -> Path:
    """The library that is preloaded."""
    library = folder() / f"shim-{Path(cxx or _cxx()).name}.so"
    flags = [*WARNINGS, *SHIM_FLAGS, "-O2", "-fPIC", "-shared"]
    compile_with([cxx or _cxx(), *flags], "-o", library, SHIM_SOURCE, *LINK)
    return library


@functools.cache
def driver(sanitizers: str = "") -> Path:
    """The driver. With sanitizers the shim is linked into it, compiled in the same way."""
    program = folder() / f"driver-{sanitizers.replace(',', '-') or 'plain'}"
    flags = [*WARNINGS, "-O1", "-g"]
    sources: list[str | Path] = [HERE / "driver.cpp"]
    if sanitizers:
        flags += [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", *SHIM_FLAGS]
        sources.append(SHIM_SOURCE)
    fake = fake_llama()
    place = [f"-L{fake.parent}", "-lfake_llama", f"-Wl,-rpath,{fake.parent}"]
    compile_with([_cxx(), *flags], "-o", program, *sources, *place, "-pthread", "-ldl")
    return program


def defined_functions(library: Path) -> frozenset[str]:
    """Functions that a shared library defines for others."""
    listing = subprocess.run(
        ["nm", "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True
    )
    symbols = [line.split() for line in listing.stdout.splitlines()]
    return frozenset(name for _, kind, name in symbols if kind == "T")


def _cxx() -> str:
    found = compiler()
    if found is None:
        raise BuildError("no C++ compiler: install g++ or clang++")
    return found

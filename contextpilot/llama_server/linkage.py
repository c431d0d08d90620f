"""Whether a llama-server's calls into libllama can be intercepted; needs no tool but the loader."""

from __future__ import annotations

import mmap
import os
import stat
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from contextpilot.llama_server import macho
from contextpilot.llama_server.refusal import InjectionError

SYMBOL = b"llama_memory_seq_rm"
"""The call by which slots lose their content: without it the shim would see nothing."""
_TIMEOUT_S = 20.0
_PT_INTERP = 3
_SHARED = "build llama.cpp with -DBUILD_SHARED_LIBS=ON, or install a packaged one"


def check_linkage(binary: Path, environ: Mapping[str, str]) -> Path:
    """Return the shared libllama whose calls can be intercepted.

    Raises:
        InjectionError: the binary is static, protected, or of another version.
    """
    with binary.open("rb") as file:
        magic = file.read(4)
    if magic == b"\x7fELF":
        library = _elf_library(binary, environ)
    elif magic in macho.MAGICS:
        library = macho.library_of(binary, "libllama")
    else:
        raise InjectionError(
            f"{binary} is a script, not a program: set LLAMA_SERVER_BIN to llama-server itself"
        )
    if library is None:
        raise InjectionError(f"{binary} does not use a shared libllama: {_SHARED}")
    if not _mentions(library, SYMBOL):
        raise InjectionError(
            f"{library} has no {SYMBOL.decode()}: this version of llama.cpp is not supported"
        )
    return library


def _elf_library(binary: Path, environ: Mapping[str, str]) -> Path | None:
    if os.stat(binary).st_mode & (stat.S_ISUID | stat.S_ISGID):
        raise InjectionError(f"{binary} is setuid: the system ignores LD_PRELOAD for it")
    interpreter = elf_interpreter(binary)
    if interpreter is None:
        return None
    try:
        listed = subprocess.run(
            [interpreter, "--list", str(binary)],  # what ldd does, for glibc and for musl
            env=dict(environ),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InjectionError(f"the libraries of {binary} cannot be listed: {error}") from error
    for line in listed.stdout.splitlines():
        name, _, place = line.partition("=>")
        path = place.rsplit(" (", 1)[0].strip()
        if name.strip().startswith("libllama.so") and path.startswith("/"):
            return Path(path)
    return None


class _Layout(NamedTuple):
    """Where an ELF file of 32 or 64 bits says where its program headers are, and what they are."""

    table: tuple[int, str]
    entries: tuple[int, str]
    place: tuple[int, str]
    length: tuple[int, str]


_LAYOUTS = {
    1: _Layout((28, "I"), (42, "HH"), (4, "I"), (16, "I")),
    2: _Layout((32, "Q"), (54, "HH"), (8, "Q"), (32, "Q")),
}


def elf_interpreter(binary: Path) -> str | None:
    """Return the loader that an ELF program names; None for a static one."""
    content = binary.read_bytes()
    layout, order = _LAYOUTS[content[4]], "<" if content[5] == 1 else ">"

    def at(base: int, field: tuple[int, str]) -> tuple[int, ...]:
        return struct.unpack_from(order + field[1], content, base + field[0])

    (table,), (size, count) = at(0, layout.table), at(0, layout.entries)
    for entry in range(table, table + size * count, size):
        if at(entry, (0, "I")) == (_PT_INTERP,):
            (place,), (length,) = at(entry, layout.place), at(entry, layout.length)
            return content[place : place + length].rstrip(b"\0").decode()
    return None


def _mentions(library: Path, symbol: bytes) -> bool:
    with (
        library.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return content.find(symbol + b"\0") >= 0

"""What macOS's loader would do with a Mach-O program: its libraries, and whether it is protected.

Formats and flags as in Apple's <mach-o/loader.h> and xnu's cs_blobs.h.
"""

from __future__ import annotations

import platform
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from contextpilot.llama_server.refusal import InjectionError

MAGICS = (b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
"""A 64-bit program or library, and a file with one for each of several processors."""
_PROCESSORS = {"arm64": 0x0100000C, "x86_64": 0x01000007}
_LOAD_DYLIB, _LOAD_WEAK_DYLIB, _REEXPORT_DYLIB = 0xC, 0x80000018, 0x8000001F
_RPATH, _CODE_SIGNATURE = 0x8000001C, 0x1D
_SIGNATURE, _CODE_DIRECTORY, _ENTITLEMENTS = 0xFADE0CC0, 0xFADE0C02, 0xFADE7171
_RESTRICT, _LIBRARY_VALIDATION, _HARDENED = 0x800, 0x2000, 0x10000
_ALLOWS = b"com.apple.security.cs.allow-dyld-environment-variables"
_SYSTEM = ("/System/", "/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/", "/usr/lib/", "/usr/libexec/")
_RESIGN = "re-sign a copy without the hardened runtime: codesign --force --sign - FILE"


class Image(NamedTuple):
    """What is needed of one Mach-O file; `flags` are those of its code signature."""

    libraries: list[str]
    rpaths: list[str]
    flags: int
    entitlements: bytes


def library_of(binary: Path, name: str) -> Path | None:
    """Return the library, named `name`*.dylib, that a program loads; None when it loads none.

    Raises:
        InjectionError: macOS would drop DYLD_INSERT_LIBRARIES for this program.
    """
    image = read_image(binary)
    _refuse_protected(binary, image)
    seen: set[Path] = set()
    queue = [(binary.resolve(), image, _folders(image.rpaths, binary.resolve(), binary.resolve()))]
    while queue:
        path, image, rpaths = queue.pop()
        for library in image.libraries:
            found = _resolve(library, path, binary.resolve(), rpaths)
            if found is None or found in seen:
                continue
            seen.add(found)
            if Path(library).name.startswith(f"{name}."):
                return found
            inner = read_image(found)
            queue.append((found, inner, rpaths + _folders(inner.rpaths, found, binary.resolve())))
    return None


def read_image(path: Path) -> Image:
    """Read the load commands and the signature of a file, of its part for this processor."""
    content = path.read_bytes()
    base = _slice(content)
    libraries: list[str] = []
    rpaths: list[str] = []
    flags, entitlements = 0, b""
    for kind, command in _commands(content, base):
        if kind in (_LOAD_DYLIB, _LOAD_WEAK_DYLIB, _REEXPORT_DYLIB):
            libraries.append(_text(command))
        elif kind == _RPATH:
            rpaths.append(_text(command))
        elif kind == _CODE_SIGNATURE:
            (offset,) = struct.unpack_from("<I", command, 8)
            flags, entitlements = _signature(content[base + offset :])
    return Image(libraries, rpaths, flags, entitlements)


def _slice(content: bytes) -> int:
    """Return where the part for this processor begins."""
    if content[:4] == MAGICS[0]:
        return 0
    (count,) = struct.unpack_from(">I", content, 4)
    wanted = _PROCESSORS.get(platform.machine())
    parts = [struct.unpack_from(">IIIII", content, 8 + 20 * n) for n in range(count)]
    for processor, _, offset, _, _ in parts:
        if processor == wanted:
            return int(offset)
    raise InjectionError("llama-server is built for another processor")


def _commands(content: bytes, base: int) -> Iterator[tuple[int, bytes]]:
    (count,) = struct.unpack_from("<I", content, base + 16)
    at = base + 32
    for _ in range(count):
        kind, size = struct.unpack_from("<II", content, at)
        yield kind, content[at : at + size]
        at += size


def _text(command: bytes) -> str:
    (offset,) = struct.unpack_from("<I", command, 8)
    return command[offset:].split(b"\0")[0].decode()


def _signature(blob: bytes) -> tuple[int, bytes]:
    """Return the flags of the code directory, and the entitlements' text."""
    magic, _, count = struct.unpack_from(">III", blob)
    flags, entitlements = 0, b""
    for number in range(count if magic == _SIGNATURE else 0):
        _, at = struct.unpack_from(">II", blob, 12 + 8 * number)
        kind, length = struct.unpack_from(">II", blob, at)
        if kind == _CODE_DIRECTORY:
            (found,) = struct.unpack_from(">I", blob, at + 12)
            flags |= found
        elif kind == _ENTITLEMENTS:
            entitlements = blob[at + 8 : at + length]
    return flags, entitlements


def _refuse_protected(binary: Path, image: Image) -> None:
    if str(binary.resolve()).startswith(_SYSTEM):
        raise InjectionError(f"{binary} is protected by macOS: use another copy of llama-server")
    if image.flags & _RESTRICT or (image.flags & _HARDENED and _ALLOWS not in image.entitlements):
        raise InjectionError(f"{binary} has the hardened runtime: {_RESIGN}")
    if image.flags & _LIBRARY_VALIDATION:
        raise InjectionError(f"{binary} accepts only libraries of its own signer: {_RESIGN}")


def _folders(rpaths: list[str], image: Path, program: Path) -> list[str]:
    return [_expanded(rpath, image, program) for rpath in rpaths]


def _expanded(path: str, image: Path, program: Path) -> str:
    path = path.replace("@loader_path", str(image.parent))
    return path.replace("@executable_path", str(program.parent))


def _resolve(name: str, image: Path, program: Path, rpaths: list[str]) -> Path | None:
    """Return the file that a library's name stands for; None for what is in the system's cache."""
    if name.startswith("@rpath/"):
        candidates = [Path(folder, name[len("@rpath/") :]) for folder in rpaths]
    else:
        candidates = [Path(_expanded(name, image, program))]
    return next((path.resolve() for path in candidates if path.is_file()), None)

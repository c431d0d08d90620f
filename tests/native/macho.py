"""Reads what dyld would read of a 64-bit Mach-O library: sections, exports, and bound imports.

Formats: <mach-o/loader.h> and <mach-o/nlist.h>; binds are the opcodes of LC_DYLD_INFO_ONLY, which
is what zig's linker writes. Chained fixups (LC_DYLD_CHAINED_FIXUPS) are refused by name.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAGIC_64 = 0xFEEDFACF
CPU_TYPES = {0x0100000C: "arm64", 0x01000007: "x86_64"}
SEGMENT_64, SYMTAB, LOAD_DYLIB, CHAINED_FIXUPS = 0x19, 0x02, 0x0C, 0x80000034
DYLD_INFO = (0x22, 0x80000022)
WEAK_DEFINES, BINDS_TO_WEAK = 0x8000, 0x10000
EXTERNAL, PRIVATE, TYPE, SECTION, DEBUG = 0x01, 0x10, 0x0E, 0x0E, 0xE0
WEAK_DEFINITION = 0x0080
FLAT_LOOKUP = -2
WEAK_IMPORT = 0x1


@dataclass(frozen=True)
class Section:
    """Where a section lies in memory and in the file."""

    address: int
    size: int
    offset: int


@dataclass(frozen=True)
class Bind:
    """One pointer that dyld fills with the address of an imported symbol."""

    address: int
    symbol: str
    library: int
    weak: bool


@dataclass(frozen=True)
class Library:
    """A Mach-O dynamic library."""

    cpu: str
    flags: int
    sections: dict[str, Section]
    functions: dict[int, str]
    exported: frozenset[str]
    weak_definitions: frozenset[str]
    libraries: tuple[str, ...]
    binds: tuple[Bind, ...]
    data: bytes

    def pointers(self, section: str) -> list[int]:
        """The 64-bit words of a section, as they are in the file."""
        place = self.sections[section]
        words = self.data[place.offset : place.offset + place.size]
        return [word for (word,) in struct.iter_unpack("<Q", words)]


def read(path: Path) -> Library:
    """Read a thin library; ValueError if it is something else."""
    data = path.read_bytes()
    magic, cpu, _, _, count, _, flags, _ = struct.unpack_from("<8I", data)
    if magic != MAGIC_64:
        raise ValueError(f"{path} is no thin 64-bit Mach-O file")
    segments: list[int] = []
    sections: dict[str, Section] = {}
    symbols: list[tuple[str, int, int, int]] = []
    libraries: list[str] = []
    binds: list[Bind] = []
    for kind, at in _commands(data, count):
        if kind == SEGMENT_64:
            segments.append(struct.unpack_from("<Q", data, at + 24)[0])
            sections.update(_sections(data, at))
        elif kind == SYMTAB:
            symbols = list(_symbols(data, at))
        elif kind == LOAD_DYLIB:
            name = at + struct.unpack_from("<I", data, at + 8)[0]
            libraries.append(_text(data, name))
        elif kind in DYLD_INFO:
            offset, size = struct.unpack_from("<2I", data, at + 16)
            binds = list(_binds(data[offset : offset + size], segments))
        elif kind == CHAINED_FIXUPS:
            raise ValueError(f"{path} has chained fixups, which this reader does not follow")
    defined = [symbol for symbol in symbols if symbol[1] & (TYPE | DEBUG) == SECTION]
    return Library(
        cpu=CPU_TYPES[cpu],
        flags=flags,
        sections=sections,
        functions={value: name for name, _, _, value in defined},
        exported=frozenset(n for n, kind, _, _ in defined if kind & (EXTERNAL | PRIVATE) == 1),
        weak_definitions=frozenset(n for n, _, about, _ in defined if about & WEAK_DEFINITION),
        libraries=tuple(libraries),
        binds=tuple(binds),
        data=data,
    )


def _commands(data: bytes, count: int) -> Iterator[tuple[int, int]]:
    at = 32
    for _ in range(count):
        kind, size = struct.unpack_from("<2I", data, at)
        yield kind, at
        at += size


def _sections(data: bytes, at: int) -> Iterator[tuple[str, Section]]:
    (count,) = struct.unpack_from("<I", data, at + 64)
    for place in range(at + 72, at + 72 + 80 * count, 80):
        section, segment = (_text(data, place + 16 * i, 16) for i in range(2))
        address, size, offset = struct.unpack_from("<2QI", data, place + 32)
        yield f"{segment},{section}", Section(address, size, offset)


def _symbols(data: bytes, at: int) -> Iterator[tuple[str, int, int, int]]:
    table, count, names, _ = struct.unpack_from("<4I", data, at + 8)
    for place in range(table, table + 16 * count, 16):
        name, kind, _, about, value = struct.unpack_from("<I2BHQ", data, place)
        yield _text(data, names + name), kind, about, value


def _binds(code: bytes, segments: list[int]) -> Iterator[Bind]:
    at = address = library = flags = 0
    symbol = ""
    while at < len(code):
        opcode, low = code[at] & 0xF0, code[at] & 0x0F
        at += 1
        if opcode == 0x10:  # SET_DYLIB_ORDINAL_IMM
            library = low
        elif opcode == 0x20:  # SET_DYLIB_ORDINAL_ULEB
            library, at = _uleb(code, at)
        elif opcode == 0x30:  # SET_DYLIB_SPECIAL_IMM, a negative number of four bits
            library = low - 16 if low else 0
        elif opcode == 0x40:  # SET_SYMBOL_TRAILING_FLAGS_IMM
            flags, symbol = low, _text(code, at)
            at += len(symbol) + 1
        elif opcode == 0x70:  # SET_SEGMENT_AND_OFFSET_ULEB
            offset, at = _uleb(code, at)
            address = segments[low] + offset
        elif opcode == 0x80:  # ADD_ADDR_ULEB, modulo 2^64
            step, at = _uleb(code, at)
            address = (address + step) % (1 << 64)
        elif opcode in (0x90, 0xA0, 0xB0, 0xC0):  # DO_BIND and its variants
            times, step = 1, 8
            if opcode == 0xA0:
                extra, at = _uleb(code, at)
                step += extra
            elif opcode == 0xB0:
                step += 8 * low
            elif opcode == 0xC0:
                times, at = _uleb(code, at)
                extra, at = _uleb(code, at)
                step += extra
            for _ in range(times):
                yield Bind(address, symbol, library, bool(flags & WEAK_IMPORT))
                address = (address + step) % (1 << 64)
        elif opcode not in (0x00, 0x50):  # DONE, SET_TYPE_IMM
            raise ValueError(f"bind opcode {opcode:#x} is unknown")


def _uleb(code: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = code[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at


def _text(data: bytes, at: int, length: int | None = None) -> str:
    end = data.index(b"\0", at) if length is None else at + length
    return data[at:end].rstrip(b"\0").decode()

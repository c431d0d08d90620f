"""What macOS's loader would do, read from Mach-O files that are written here, byte by byte."""

from __future__ import annotations

import platform
import struct
from pathlib import Path

import pytest

from contextpilot.llama_server.macho import library_of
from contextpilot.llama_server.refusal import InjectionError

HARDENED, RESTRICT, LIBRARY_VALIDATION = 0x10000, 0x800, 0x2000
ALLOWS = b"<key>com.apple.security.cs.allow-dyld-environment-variables</key><true/>"


def text_command(kind: int, offset: int, text: str) -> bytes:
    content = text.encode() + b"\0"
    size = (offset + len(content) + 7) // 8 * 8
    head = struct.pack("<III", kind, size, offset)
    return (head.ljust(offset, b"\0") + content).ljust(size, b"\0")


def signature(flags: int, entitlements: bytes) -> bytes:
    directory = struct.pack(">IIII", 0xFADE0C02, 16, 0x20400, flags)
    rights = struct.pack(">II", 0xFADE7171, 8 + len(entitlements)) + entitlements
    index = struct.pack(">IIII", 0, 28, 5, 28 + len(directory))
    whole = index + directory + rights
    return struct.pack(">III", 0xFADE0CC0, 12 + len(whole), 2) + whole


def image(
    libraries: tuple[str, ...] = (),
    rpaths: tuple[str, ...] = (),
    flags: int = 0,
    entitlements: bytes = b"",
) -> bytes:
    commands = [text_command(0xC, 24, name) for name in libraries]
    commands += [text_command(0x8000001C, 12, path) for path in rpaths]
    size = sum(map(len, commands)) + 16
    signed = signature(flags, entitlements)
    commands.append(struct.pack("<IIII", 0x1D, 16, 32 + size, len(signed)))
    head = struct.pack("<IIIIIIII", 0xFEEDFACF, 0x0100000C, 0, 2, len(commands), size, 0, 0)
    return head + b"".join(commands) + signed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A llama-server that reaches libllama as Homebrew's does: by @rpath, through another one."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "lib").mkdir()
    program = image(
        ("@rpath/libllama-server-impl.dylib", "/usr/lib/libSystem.B.dylib"),
        ("@loader_path/../lib",),
    )
    (tmp_path / "bin" / "llama-server").write_bytes(program)
    impl = image(("@rpath/libllama-common.0.dylib", "@rpath/libllama.0.dylib"))
    (tmp_path / "lib" / "libllama-server-impl.dylib").write_bytes(impl)
    (tmp_path / "lib" / "libllama-common.0.dylib").write_bytes(image())
    (tmp_path / "lib" / "libllama.0.dylib").write_bytes(image())
    return tmp_path


def test_libllama_is_found_behind_other_libraries(folder: Path) -> None:
    found = library_of(folder / "bin" / "llama-server", "libllama")
    assert found == folder / "lib" / "libllama.0.dylib"


def test_a_static_program_has_none(folder: Path) -> None:
    program = folder / "bin" / "llama-server"
    program.write_bytes(image(("/usr/lib/libSystem.B.dylib",)))
    assert library_of(program, "libllama") is None


@pytest.mark.parametrize(
    ("flags", "entitlements", "reason"),
    [
        (HARDENED, b"", "has the hardened runtime: re-sign"),
        (RESTRICT, ALLOWS, "has the hardened runtime: re-sign"),
        (HARDENED | LIBRARY_VALIDATION, ALLOWS, "only libraries of its own signer"),
    ],
)
def test_protected_programs_are_refused(
    folder: Path, flags: int, entitlements: bytes, reason: str
) -> None:
    program = folder / "bin" / "llama-server"
    program.write_bytes(image((), (), flags, entitlements))
    with pytest.raises(InjectionError, match=reason):
        library_of(program, "libllama")
    program.write_bytes(image((), (), HARDENED, ALLOWS))
    assert library_of(program, "libllama") is None


def test_of_a_file_for_two_processors_the_right_part_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = folder / "bin" / "llama-server"
    arm, intel = image(flags=HARDENED), program.read_bytes()
    parts = [(0x0100000C, arm), (0x01000007, intel)]
    head, body = struct.pack(">II", 0xCAFEBABE, 2), b""
    for processor, part in parts:
        head += struct.pack(">IIIII", processor, 0, 48 + len(body), len(part), 0)
        body += part
    program.write_bytes(head + body)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert library_of(program, "libllama") == folder / "lib" / "libllama.0.dylib"
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    with pytest.raises(InjectionError, match="hardened"):
        library_of(program, "libllama")

"""Compiles the shim on first use, and keeps it: per compiler, flags, source and processor.

What is kept runs inside llama-server, so nothing is taken that another user could have written.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from contextpilot.llama_server.refusal import InjectionError

COMPILERS = ("clang++", "g++", "c++")
SOURCE = "contextpilot_llama.cpp"
LIBRARY = "libcontextpilot_llama"
_COMMON = shlex.split(
    "-std=c++17 -O2 -Wall -Wextra -fvisibility=hidden -fno-exceptions -fno-rtti -pthread"
)
_LINUX = (*_COMMON, *shlex.split("-fPIC -shared"))
_MACOS = (
    *_COMMON,
    *shlex.split("-dynamiclib -mmacosx-version-min=13.0 -Wl,-undefined,dynamic_lookup"),
    *shlex.split("-install_name @rpath/libcontextpilot_llama.dylib"),
)
_LIBRARIES = {"linux": ("-Wl,--as-needed", "-ldl"), "darwin": ()}
_TIMEOUT_S = 300.0
_FOLDER = "llama-shim"


def source_folder() -> Path:
    """Return the folder of the shim's sources: within the package, or beside it in a checkout.

    Raises:
        InjectionError: they are missing.
    """
    here = Path(__file__).resolve().parent
    for folder in (here / "native", here.parents[1] / "native"):
        if (folder / SOURCE).is_file():
            return folder
    raise InjectionError("the shim's sources are missing: reinstall contextpilot")


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder in which compiled shims are kept."""
    if environ.get("XDG_CACHE_HOME"):
        return Path(environ["XDG_CACHE_HOME"]) / "contextpilot" / _FOLDER
    home = Path(environ.get("HOME") or Path.home())
    caches = home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"
    return caches / "contextpilot" / _FOLDER


def shim_library(environ: Mapping[str, str]) -> Path:
    """Return the compiled shim, compiled now if this compiler never did.

    Safe against other processes that start at the same time.

    Raises:
        InjectionError: there is no compiler, none that can compile it, or others may write where
            it is kept.
    """
    folder, source = cache_folder(environ), source_folder()
    compilers = [path for name in COMPILERS if (path := shutil.which(name, path=_path(environ)))]
    if not compilers:
        raise InjectionError(f"there is no C++ compiler ({', '.join(COMPILERS)}): {_install()}")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_own(folder)
        folder.chmod(0o700)
        return _compiled(folder, source, compilers, environ)
    except OSError as error:
        raise InjectionError(f"the shim cannot be stored in {folder}: {error}") from error


def _compiled(
    folder: Path, source: Path, compilers: Sequence[str], environ: Mapping[str, str]
) -> Path:
    complaints = []
    for compiler in compilers:
        target = folder / _name(compiler, source, environ)
        if os.path.lexists(target):
            _check_own(target)
            return target
        with _locked(target.with_suffix(".lock")):
            complaint = ""
            if not os.path.lexists(target):
                complaint = _compile(compiler, source, target, environ)
        if not complaint:
            return target
        complaints.append(f"{compiler}: {complaint}")
    raise InjectionError("the shim does not compile: " + "; ".join(complaints))


def _check_own(path: Path) -> None:
    """Raise InjectionError where a folder or file is a link, or another user's work.

    A folder of our own that others may write is closed next; what they put there is not ours.
    """
    found = path.lstat()
    is_folder = stat.S_ISDIR(found.st_mode)
    if not (is_folder or stat.S_ISREG(found.st_mode)):
        raise InjectionError(f"{path} is neither a folder nor a regular file: remove it")
    others_write = not is_folder and found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if found.st_uid != os.getuid() or others_write:
        raise InjectionError(f"{path} may have been written by another user: remove it")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes out; a link in the lock's place is not followed."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _compile(compiler: str, source: Path, target: Path, environ: Mapping[str, str]) -> str:
    """Compile into `target`, which appears whole or not at all; return a complaint or ""."""
    handle, name = tempfile.mkstemp(dir=target.parent, suffix=".part")
    os.close(handle)
    partial = Path(name)
    command = [compiler, *_flags(), "-o", name, str(source / SOURCE), *_libraries()]
    try:
        done = subprocess.run(
            command, env=dict(environ), capture_output=True, timeout=_TIMEOUT_S, check=False
        )
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            return next((line for line in lines if "error" in line), "no reason given")
        if not partial.stat().st_size:
            return "it wrote nothing"
        os.chmod(partial, 0o755)
        os.replace(partial, target)
    except subprocess.TimeoutExpired:
        return "it took too long"
    finally:
        partial.unlink(missing_ok=True)
    return ""


def _name(compiler: str, source: Path, environ: Mapping[str, str]) -> str:
    """Return the file name of what this compiler makes of this source."""
    version = subprocess.run(
        [compiler, "--version"],
        env=dict(environ),
        capture_output=True,
        timeout=_TIMEOUT_S,
        check=False,
    ).stdout
    digest = hashlib.sha256()
    for part in (compiler, *_flags(), *_libraries(), platform.machine()):
        digest.update(part.encode() + b"\0")
    digest.update(version)
    for file in [*sorted(source.glob("*.h")), source / SOURCE]:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    ending = "dylib" if sys.platform == "darwin" else "so"
    return f"{LIBRARY}-{digest.hexdigest()[:16]}.{ending}"


def _flags() -> tuple[str, ...]:
    return _MACOS if sys.platform == "darwin" else _LINUX


def _libraries() -> tuple[str, ...]:
    return _LIBRARIES.get(sys.platform, ())


def _path(environ: Mapping[str, str]) -> str:
    return environ.get("PATH", os.defpath)


def _install() -> str:
    if sys.platform == "darwin":
        return "install one with xcode-select --install"
    return "install g++ or clang"

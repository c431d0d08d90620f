"""Starts llama-server with the shim inside, or plainly where that cannot be, and says so."""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from contextpilot.llama_server.compiler import LIBRARY, shim_library
from contextpilot.llama_server.hello import Watched, wait_for_hello
from contextpilot.llama_server.linkage import check_linkage
from contextpilot.llama_server.refusal import InjectionError

BINARY = "LLAMA_SERVER_BIN"
INDEX_URL = "CONTEXTPILOT_INDEX_URL"
INDEX_TOKEN = "CONTEXTPILOT_INDEX_TOKEN"
ENGINE_ID = "CONTEXTPILOT_ENGINE_ID"
RAM_BYTES = "CONTEXTPILOT_LLAMA_RAM_BYTES"
DEFAULT_PORT = "8080"
DEFAULT_RAM_BYTES = 8192 << 20
"""llama-server's RAM prompt cache where no flag says otherwise (b11434)."""
_PRELOAD = {"linux": "LD_PRELOAD", "darwin": "DYLD_INSERT_LIBRARIES"}
_NAME = "contextpilot-llama-server"
_HELP = f"""\
usage: {_NAME} [llama-server's flags]

Starts llama-server with a small library inside, which tells
an index what each slot holds; without an index,
llama-server is unchanged.

  {INDEX_URL}    the index's URL, for example
                            http://127.0.0.1:8765
  {INDEX_TOKEN}  its token, if it requires one
  {ENGINE_ID}    name in the index
  {BINARY}          llama-server, if not in PATH
  {RAM_BYTES}
                            memory for slots' copies

example:
  {INDEX_URL}=http://127.0.0.1:8765 \\
      {_NAME} -m model.gguf --port 8080
"""


class Prepared(NamedTuple):
    """How to start llama-server.

    Attributes:
        environ: its environment, with the shim where it is injected.
        watched: what has to report; None where nothing is injected.
        problem: why nothing is injected although it was asked for.
    """

    binary: Path
    environ: dict[str, str]
    watched: Watched | None
    problem: str | None = None


@dataclass
class LlamaServer:
    """A started llama-server.

    Attributes:
        process: the server's own process.
        engine_id: the name under which it reports; "" if it does not.
        problem: why the index will not know what its slots hold; None if its shim has reported.
    """

    process: subprocess.Popen[Any]
    engine_id: str
    problem: str | None

    @property
    def is_synced(self) -> bool:
        """Whether the shim has reported at the index."""
        return bool(self.engine_id) and self.problem is None


def launch(
    arguments: Sequence[str] = (),
    *,
    index_url: str | None = None,
    environ: Mapping[str, str] | None = None,
    wait_s: float = 600.0,
    **options: Any,
) -> LlamaServer:
    """Start llama-server, and wait until its shim has reported to the index.

    Args:
        arguments: llama-server's own flags.
        index_url: where to report; default: `CONTEXTPILOT_INDEX_URL` of the environment. Without
            one, llama-server starts without the shim, and there is no waiting.
        environ: its environment; default: this process's.
        wait_s: how long to wait for the shim; it reports once the model is loaded.
        options: as `subprocess.Popen` takes them.

    Raises:
        FileNotFoundError: there is no llama-server.
    """
    given = dict(os.environ if environ is None else environ)
    if index_url is not None:
        given[INDEX_URL] = index_url
    prepared = prepare(arguments, given)
    command = [str(prepared.binary), *arguments]
    process = subprocess.Popen(command, env=prepared.environ, **options)
    if prepared.watched is None:
        return LlamaServer(process, "", prepared.problem)
    watched = prepared.watched._replace(pid=process.pid)
    problem = wait_for_hello(watched, lambda: process.poll() is None, wait_s)
    return LlamaServer(process, prepared.environ[ENGINE_ID], problem)


def main(arguments: Sequence[str] | None = None) -> int:
    """Become llama-server: the console script. Returns only when there is none, or with help."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & {*given}:
        return _help()
    try:
        prepared = prepare(given, os.environ)
    except FileNotFoundError as error:
        _say(str(error))
        return 127
    if prepared.problem is not None:
        _say(f"{prepared.problem}; llama-server starts without the shim")
    if prepared.watched is not None:
        _watch_aside(prepared.watched._replace(pid=os.getpid()))
    sys.stdout.flush()
    os.execve(prepared.binary, [str(prepared.binary), *given], prepared.environ)
    return 0


def _help() -> int:
    """Tell what is ours; llama-server's own flags are its own to tell, where there is one."""
    sys.stdout.write(_HELP)
    try:
        binary = find_binary(os.environ)
    except FileNotFoundError as error:
        sys.stdout.write(f"\n{error}; its own flags are not shown\n")
        return 0
    sys.stdout.write(f"\n{binary} --help says:\n\n")
    sys.stdout.flush()
    return subprocess.run([binary, "--help"], check=False).returncode


def prepare(arguments: Sequence[str], environ: Mapping[str, str]) -> Prepared:
    """Return how to start llama-server with these flags; compiles the shim if need be.

    Raises:
        FileNotFoundError: there is no llama-server.
    """
    binary = find_binary(environ)
    if not environ.get(INDEX_URL):
        return Prepared(binary, dict(environ), None)
    try:
        check_linkage(binary, environ)
        shim = shim_library(environ)
        return _injected(binary, shim, arguments, dict(environ))
    except InjectionError as error:
        return Prepared(binary, dict(environ), None, str(error))


def find_binary(environ: Mapping[str, str]) -> Path:
    """Return llama-server: what LLAMA_SERVER_BIN names, else the first in PATH.

    Raises:
        FileNotFoundError: there is none.
    """
    named = environ.get(BINARY)
    path = environ.get("PATH", os.defpath)
    found = shutil.which(named or "llama-server", path=path)
    if found is not None:
        return Path(found)
    if named:
        raise FileNotFoundError(f"{BINARY} is {named}, which is not an executable program")
    raise FileNotFoundError(
        f"llama-server is not in PATH: install llama.cpp, or set {BINARY} to the binary"
    )


def _injected(
    binary: Path, shim: Path, arguments: Sequence[str], environ: dict[str, str]
) -> Prepared:
    variable = _PRELOAD.get(sys.platform)
    if variable is None:
        raise InjectionError(f"{sys.platform} is not supported: Linux and macOS are")
    if any(separator in str(shim) for separator in ": "):
        raise InjectionError(
            f"{shim} cannot be named in {variable}: set XDG_CACHE_HOME to a path without spaces"
        )
    before = environ.get(variable, "")
    if LIBRARY not in before:  # a nested launch: once is enough
        environ[variable] = f"{before}:{shim}" if before else str(shim)
    port = _flag(arguments, "--port") or environ.get("LLAMA_ARG_PORT") or DEFAULT_PORT
    environ.setdefault(ENGINE_ID, f"llamacpp-{socket.gethostname()}-{port}")
    environ.setdefault(RAM_BYTES, str(DEFAULT_RAM_BYTES))
    host = _flag(arguments, "--host") or environ.get("LLAMA_ARG_HOST") or "127.0.0.1"
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
    url, token = environ[INDEX_URL], environ.get(INDEX_TOKEN, "").strip()
    environ[INDEX_TOKEN] = token  # the shim takes it as it is
    return Prepared(binary, environ, Watched(0, url, token, f"http://{reachable}:{port}"))


def _flag(arguments: Sequence[str], name: str) -> str | None:
    """Return the value of the last flag of this name."""
    at = [i for i, word in enumerate(arguments[:-1]) if word == name]
    return arguments[at[-1] + 1] if at else None


def _watch_aside(watched: Watched) -> None:
    """Watch from a process that is nobody's child, and say on stderr when nothing is reported.

    llama-server inherits the one end of a pipe that nobody writes to: it closes when it ends.
    """
    ended, kept = os.pipe()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        os.close(ended)
        os.set_inheritable(kept, True)
        return
    try:
        if os.fork() == 0:
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, 0)
            os.dup2(nowhere, 1)
            os.close(kept)
            problem = wait_for_hello(watched, lambda: not _is_readable(ended))
            if problem is not None and not _is_readable(ended):
                _say(problem)
    finally:
        os._exit(0)


def _is_readable(end: int) -> bool:
    return bool(select.select([end], [], [], 0)[0])


def _say(text: str) -> None:
    sys.stderr.write(f"{_NAME}: {text}\n")
    sys.stderr.flush()

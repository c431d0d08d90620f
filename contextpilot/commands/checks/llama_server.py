"""Checks of what contextpilot-llama-server needs: the server, its shared libllama, the shim."""

from __future__ import annotations

import os
from collections.abc import Iterator

from contextpilot.commands.checks.check import Check
from contextpilot.commands.checks.hooks import INDEX_URL
from contextpilot.llama_server.compiler import shim_library
from contextpilot.llama_server.launcher import BINARY, find_binary
from contextpilot.llama_server.linkage import check_linkage
from contextpilot.llama_server.refusal import InjectionError

_NAME = "llama-server shim"
_INSTALL = f"install llama.cpp, or set {BINARY} to the binary"


def check_llama_server() -> Iterator[Check]:
    """Look for llama-server, and whether it could tell the index of its slots.

    With CONTEXTPILOT_INDEX_URL set the shim is compiled, as the launcher would.
    """
    try:
        binary = find_binary(os.environ)
    except FileNotFoundError as error:
        if os.environ.get(BINARY):  # else its absence stands among the engines
            yield Check(_NAME, "fail", str(error), _INSTALL)
        return
    is_asked = bool(os.environ.get(INDEX_URL))
    try:
        library = check_linkage(binary, os.environ)
        shim = shim_library(os.environ) if is_asked else None
    except InjectionError as error:
        fix = "the message says how; until then llama-server runs, but reports nothing"
        yield Check(_NAME, "warn", str(error), fix)
        return
    state = f"shim {shim}" if shim is not None else f"inert: {INDEX_URL} is not set"
    yield Check(_NAME, "ok", f"{binary}, {library.name}, {state}")

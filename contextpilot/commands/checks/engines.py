"""Checks of the engines that this Python and this PATH can see."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator

from contextpilot.commands.checks.check import Check, installed_version
from contextpilot.commands.checks.hooks import HOOKED_ENGINES

_TIMEOUT_S = 10
_HERE = "not in this Python environment; run doctor where the engine is installed"


def check_engines() -> Iterator[Check]:
    """Look for vLLM, SGLang and llama-server. Engines are not imported."""
    for name in HOOKED_ENGINES:
        found = installed_version(name)
        yield Check(name, "ok" if found else "absent", found or _HERE)
    yield _check_llama_server()


def _check_llama_server() -> Check:
    named = os.environ.get("LLAMA_SERVER_BIN", "")
    path = shutil.which(named or "llama-server")
    if path is None and named:
        fix = "set LLAMA_SERVER_BIN to the llama-server program, or unset it"
        return Check("llama-server", "fail", f"LLAMA_SERVER_BIN={named} is no program", fix)
    if path is None:
        return Check("llama-server", "absent", "not on PATH, and LLAMA_SERVER_BIN is not set")
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        fix = f"run {path} --version by hand"
        return Check("llama-server", "fail", f"{path} does not start: {error}", fix)
    version = re.search(r"version: *(\S+)", done.stdout + done.stderr)
    return Check("llama-server", "ok", f"{version[1] if version else 'version unknown'} at {path}")

"""Checks of the engines that this Python and this PATH can see."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator

from contextpilot.commands.checks.check import Check, installed_version
from contextpilot.commands.checks.hooks import hooked_kinds
from contextpilot.engines.registry import kinds

_TIMEOUT_S = 10
_HERE = "not in this Python environment; run doctor where the engine is installed"


def check_engines() -> Iterator[Check]:
    """Look for every kind that is a package or a program. Engines are not imported."""
    for kind in hooked_kinds():
        found = installed_version(kind.distribution)
        yield Check(kind.name, "ok" if found else "absent", found or _HERE)
    for kind in kinds():
        if kind.program is not None:
            yield _check_program(*kind.program)


def _check_program(name: str, variable: str) -> Check:
    named = os.environ.get(variable, "")
    path = shutil.which(named or name)
    if path is None and named:
        fix = f"set {variable} to the {name} program, or unset it"
        return Check(name, "fail", f"{variable}={named} is not a program", fix)
    if path is None:
        return Check(name, "absent", f"not on PATH, and {variable} is not set")
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        fix = f"run {path} --version by hand"
        return Check(name, "fail", f"{path} does not start: {error}", fix)
    version = re.search(r"version: *(\S+)", done.stdout + done.stderr)
    return Check(name, "ok", f"{version[1] if version else 'version unknown'} at {path}")

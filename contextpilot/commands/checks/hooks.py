"""Checks of what starts the hooks inside engine processes.

Without CONTEXTPILOT_INDEX_URL the hooks are not asked for, and nothing that is missing counts as
broken; nor does it where no engine is installed, as beside an application that only plans.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

from contextpilot.commands.checks.check import Check, Status, installed_version
from contextpilot.engines.base import EngineKind
from contextpilot.engines.registry import kinds
from contextpilot.install_hook import PTH, PTH_LINE, START, START_LINE, status

HOOKS_PACKAGE = "contextpilot_hooks"
INDEX_URL = "CONTEXTPILOT_INDEX_URL"

_INSTALL = "python -m contextpilot.install_hook, or pip install . in a checkout"
_SWITCH_ON = "python -m contextpilot.install_hook"
_REINSTALL = "pip install --force-reinstall --no-deps . in a checkout"
_NEEDS_START_FILE = (3, 18)
"""Python that no longer runs the code of .pth files (PEP 829)."""
_TIMEOUT_S = 20


def hooked_kinds() -> list[EngineKind]:
    """Return the kinds of engines whose processes the hooks attach to."""
    return [kind for kind in kinds() if kind.distribution]


def severity() -> Status:
    """Return what broken hooks are: a failure where engines launched from here are to report."""
    packages = [kind.distribution for kind in hooked_kinds()]
    return "fail" if _is_asked() and installed_version(*packages) else "warn"


def _is_asked() -> bool:
    return bool(os.environ.get(INDEX_URL))


def check_startup_files() -> Iterator[Check]:
    """Look for the .pth and the .start file, and whether a fresh interpreter obeys them."""
    now = status()
    path, is_asked = now.folder / PTH, _is_asked()
    if now.active:
        state = "active" if is_asked else f"inert: {INDEX_URL} is not set"
        yield Check("hooks", "ok", f"{path if now.installed else 'started otherwise'}, {state}")
    elif now.off is not None:
        detail = f"switched off by {now.off}"
        yield Check("hooks", severity() if is_asked else "absent", detail, _SWITCH_ON)
    elif now.installed:
        detail = f"{path} is there, but the hooks do not start: {_why_not_importable()}"
        yield Check("hooks", severity(), detail, _REINSTALL)
    else:
        detail = f"{PTH} is in no folder that Python reads at startup"
        detail += ": engines launched from here will report nothing" if is_asked else ""
        yield Check("hooks", severity() if is_asked else "absent", detail, _INSTALL)
    if now.installed:
        yield _check_pth(path)
        yield _check_start_file(now.folder)


def check_plugins() -> Iterator[Check]:
    """Look for the entry points by which engines load plugins; the second way to the hooks."""
    groups = [kind.plugin_group for kind in kinds() if kind.plugin_group]
    missing = [
        group
        for group in groups
        if all(point.value != START_LINE for point in entry_points(group=group))
    ]
    if missing:
        detail = f"no entry point in {', '.join(missing)}"
        yield Check("plugins", "absent", detail, "pip install . in a checkout")
    else:
        yield Check("plugins", "ok", f"entry points in {', '.join(groups)}")


def _check_pth(path: Path) -> Check:
    """Show the hash of what runs at each start of this Python, and that it is what we brought."""
    content = path.read_bytes()
    detail = f"sha256 {hashlib.sha256(content).hexdigest()}"
    runs = [line for line in content.decode(errors="replace").splitlines() if _runs(line)]
    if runs == [PTH_LINE]:
        return Check("hooks (.pth)", "ok", f"{detail}, runs the one line of this version")
    return Check(
        "hooks (.pth)", "warn", f"{detail}, runs other code than this version's", _REINSTALL
    )


def _runs(line: str) -> bool:
    """Whether Python runs a line of a .pth file; all others are folders or comments."""
    return line.startswith(("import ", "import\t"))


def _check_start_file(folder: Path) -> Check:
    path = folder / START
    if path.is_file() and START_LINE in path.read_text(errors="replace"):
        return Check("hooks (.start)", "ok", str(path))
    needed = sys.version_info >= _NEEDS_START_FILE
    detail = f"{path} is missing; Python {'.'.join(map(str, _NEEDS_START_FILE))} will need it"
    return Check("hooks (.start)", "warn" if needed else "absent", detail, _REINSTALL)


def _why_not_importable() -> str:
    """Import the hooks in a fresh interpreter; return the last line of its complaint."""
    environ = {name: value for name, value in os.environ.items() if name != INDEX_URL}
    done = subprocess.run(
        [sys.executable, "-c", f"import {HOOKS_PACKAGE}.start"],
        env=environ,
        cwd=Path(sys.executable).parent,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode == 0:
        return f"{HOOKS_PACKAGE} can be imported, but {PTH} did not do it"
    return (done.stderr.strip().splitlines() or ["no reason given"])[-1]

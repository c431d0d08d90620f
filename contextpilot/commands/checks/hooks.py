"""Checks of what starts the hooks inside engine processes."""

from __future__ import annotations

import os
import site
import sysconfig
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from contextpilot.commands.checks.check import Check

STARTUP_FILE = "contextpilot_hook.pth"
HOOKS_PACKAGE = "contextpilot_hooks"
INDEX_URL = "CONTEXTPILOT_INDEX_URL"


def check_startup_file() -> Iterator[Check]:
    """Look for the .pth in the folders where Python reads such files.

    Without INDEX_URL the hooks are not asked for, and nothing that is missing counts as broken.
    """
    asked = bool(os.environ.get(INDEX_URL))
    found = [
        folder / STARTUP_FILE for folder in site_folders() if (folder / STARTUP_FILE).is_file()
    ]
    if not found:
        detail = f"{STARTUP_FILE} is in no folder that Python reads at its start"
        detail += f", so {INDEX_URL} has no effect" if asked else ""
        yield Check("hooks", "fail" if asked else "absent", detail, "pip install contextpilot")
    elif find_spec(HOOKS_PACKAGE) is None:
        detail = f"{found[0]} is there, but {HOOKS_PACKAGE} cannot be imported"
        fix = "pip install --force-reinstall contextpilot"
        yield Check("hooks", "fail" if asked else "warn", detail, fix)
    else:
        state = "active" if asked else f"inert: {INDEX_URL} is not set"
        yield Check("hooks", "ok", f"{found[0]}, {state}")


def site_folders() -> list[Path]:
    """Return the folders whose .pth files this interpreter runs at its start."""
    folders = [sysconfig.get_path("purelib"), *site.getsitepackages()]
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    return [Path(folder) for folder in dict.fromkeys(folders)]

"""Looks for the reference implementation: another project, imported under the same name.

It leaves more behind than its package: a start-up file that imports its hooks into every Python, a
script called as ours is, and, from its own installer, a module beside the packages.
"""

from __future__ import annotations

import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

import contextpilot
from contextpilot.commands.checks.check import Check
from contextpilot.install_hook import PTH

_NAME = "foreign contextpilot"
_OURS = Path(contextpilot.__file__).parent
_THEIR_HOOKS = ("_sglang_hook.py", "_vllm_hook.py")
_THEIR_MODULE = "contextpilot_hook.py"
_SCRIPTS = ("contextpilot", "contextpilot-llama-server")
_AGAIN = "pip uninstall contextpilot, then pip install . in a checkout"


def check_foreign() -> Iterator[Check]:
    """Look where Python, its start-up files and its scripts are for what is not ours."""
    paths = sysconfig.get_paths()
    places = [*sys.path, *site.getsitepackages(), paths["purelib"]]
    folders = dict.fromkeys(Path(place or ".").resolve() for place in places)
    yield from foreign_packages(folders)
    yield from foreign_starts([*folders, Path(sys.prefix)])
    yield from foreign_scripts(Path(paths["scripts"]))


def foreign_packages(folders: Iterable[Path]) -> Iterator[Check]:
    """Tell of packages `contextpilot` that are the other project's."""
    for folder in folders:
        package = folder / "contextpilot"
        if package != _OURS and any((package / name).is_file() for name in _THEIR_HOOKS):
            detail = f"{package} is another project's package with the same name"
            yield Check(_NAME, "warn", detail, _AGAIN)


def foreign_starts(folders: Iterable[Path]) -> Iterator[Check]:
    """Tell of start-up files that import the other project's hooks, and of their module."""
    for folder in folders:
        path, module = folder / PTH, folder / _THEIR_MODULE
        if path.is_file() and _imports_theirs(path):
            detail = f"{path} belongs to another project: it imports that project's hooks"
            fix = "delete it, then python -m contextpilot.install_hook where the engine runs"
            yield Check(_NAME, "warn", detail, fix)
        if module.is_file():
            yield Check(_NAME, "warn", f"{module} is another project's hook", "delete it")


def foreign_scripts(folder: Path) -> Iterator[Check]:
    """Tell of scripts that lead into the other project."""
    for name in _SCRIPTS:
        path = folder / name
        if path.is_file() and b"contextpilot._llamacpp_hook" in path.read_bytes():
            yield Check(_NAME, "warn", f"{path} is another project's script", _AGAIN)


def _imports_theirs(path: Path) -> bool:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    theirs = ("import contextpilot._", "import contextpilot_hook")
    return any(line.startswith(theirs) and "contextpilot_hooks" not in line for line in lines)

"""The packages that ContextPilot needs and this environment lacks: pip was told --no-deps."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires, version

_NAME = re.compile(r"[\w.-]+")
_OURS = ("contextpilot", "contextpilot_hooks")


def lacking() -> list[str]:
    """Return the required packages that are not installed; none where we are not installed."""
    try:
        needed = requires("contextpilot") or []
    except PackageNotFoundError:
        return []
    # what has a marker belongs to an extra, or to some platforms only
    names = [match[0] for line in needed if ";" not in line and (match := _NAME.match(line))]
    return [name for name in names if not _is_installed(name)]


def is_foreign(error: ModuleNotFoundError) -> bool:
    """Whether a package of somebody else is missing, not a module of our own."""
    return (error.name or "").partition(".")[0] not in ("", *_OURS)


def told(error: ModuleNotFoundError) -> str:
    """Return what is missing and the command that brings it, along with all else that is."""
    return f"{error.name} is not installed: pip install {' '.join(lacking() or [str(error.name)])}"


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True

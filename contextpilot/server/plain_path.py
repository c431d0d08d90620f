"""A path as its most lenient reader takes it: engines, and what stands before them, read more."""

from __future__ import annotations

import urllib.parse

_MAX_CODINGS = 3
"""How often a path may be escaped within itself; nobody writes more than one for good."""


def plain_path(path: str) -> str:
    """Return a path without escapes, parameters, empty steps and steps to itself, in lower case."""
    return "/" + "/".join(step for step in _steps(path) if step not in ("", ".")).lower()


def leads_out(path: str) -> bool:
    """Return whether a path, as anybody may read it, leads upwards."""
    return ".." in _steps(path) or _decoded(path) != urllib.parse.unquote(_decoded(path))


def _steps(path: str) -> list[str]:
    steps = _decoded(path).replace("\\", "/").split("/")
    return [step.partition(";")[0].partition("\0")[0].strip() for step in steps]


def _decoded(path: str) -> str:
    for _ in range(_MAX_CODINGS):
        path = urllib.parse.unquote(path)
    return path

"""What an engine's metrics say of its load, by the names of all kinds: each is of one kind only.

So a router that passes its engines' metrics on is understood, too.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from contextpilot.engines.base import LoadNames
from contextpilot.engines.registry import kinds

_VALUE = r")(?:\{[^\n]*\})?[ \t]+(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)(?=\s|$)"
_MOST = 1e9
"""Requests that are believed to wait; what tells more, or infinitely many, is no count."""


class Load(NamedTuple):
    """Requests that an engine runs, and those that wait inside it; engines of a group added up."""

    running: int
    waiting: int


def read_load(metrics: str) -> Load | None:
    """Return what is told in Prometheus' text format; None where nothing is told of a queue."""
    names, samples = _known(tuple(kind.load for kind in kinds()))
    told = ((name, float(value)) for name, value in samples.findall(metrics))
    found = [(name, value) for name, value in told if value <= _MOST]
    waiting = [value for name, value in found if name in names.waiting]
    if not waiting:
        return None
    running = sum(value for name, value in found if name in names.running)
    return Load(int(running), int(sum(waiting)))


@cache
def _known(loads: tuple[LoadNames, ...]) -> tuple[LoadNames, re.Pattern[str]]:
    """Return all names together, and what finds their samples."""
    running = tuple(name for names in loads for name in names.running)
    waiting = tuple(name for names in loads for name in names.waiting)
    any_of_them = "|".join(map(re.escape, (*running, *waiting)))
    return LoadNames(running, waiting), re.compile("^(" + any_of_them + _VALUE, re.MULTILINE)

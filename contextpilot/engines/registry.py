"""The kinds of engines: every module beside this one that has an object `ENGINE`.

Every command imports this, so the modules that ask engines over HTTP are not looked into.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

import contextpilot.engines as room
from contextpilot.engines import other
from contextpilot.engines.base import EngineKind

AUTO = "auto"
"""Stands for "find out" in the place of a kind's name."""
OTHER: EngineKind = other.ENGINE
"""What nothing is known of."""
_WITHOUT_KIND = {
    *("asked_layers", "base", "blocking_layers", "detect", "fetch", "load", "registry"),
    *("tokenize", "usage"),
}
_known: tuple[EngineKind, ...] = ()


def register(kind: EngineKind) -> None:
    """Add a kind that is no file of this room. Raises ValueError: its name is taken, or empty."""
    global _known
    if not kind.name or kind.name in kind_names():
        raise ValueError(f"the name of an engine kind must be new: {kind.name!r} is taken")
    _known = tuple(sorted((*_known, kind), key=lambda each: (each is OTHER, each.name)))


def unregister(kind: EngineKind) -> None:
    """Take a kind away again; nothing happens where it is none."""
    global _known
    _known = tuple(each for each in _known if each is not kind)


def kinds() -> tuple[EngineKind, ...]:
    """Return all kinds, in order of their names; what nothing is known of comes last."""
    return _known


def kind_named(name: str) -> EngineKind:
    """Return the kind of this name. Raises ValueError that lists the known names."""
    found = next((kind for kind in _known if kind.name == name), None)
    if found is None:
        known = ", ".join(kind_names())
        raise ValueError(f"{name!r} is not a kind of engine: known are {known}")
    return found


def kind_of_owner(owner: str) -> EngineKind | None:
    """Return the kind that `/v1/models` names as the owner of its models; None for no kind."""
    return next((kind for kind in kinds() if owner and kind.owner == owner), None)


def all_report_flags() -> str:
    """Return how each kind is launched so that it reports cached tokens, for people."""
    flags = [(kind.title, kind.report_flag) for kind in kinds() if kind.report_flag]
    return "; ".join(f"{title}: launch with {flag}" for title, flag in flags)


def cache_members() -> tuple[str, ...]:
    """Return the body members that divide the cache of any kind, beside the model, in order."""
    return tuple(sorted({name for kind in kinds() for name in kind.cache_members}))


def kind_names() -> tuple[str, ...]:
    """Return the names of all kinds."""
    return tuple(kind.name for kind in _known)


for _found in iter_modules(room.__path__):
    if _found.name not in _WITHOUT_KIND:
        register(import_module(f"{room.__name__}.{_found.name}").ENGINE)

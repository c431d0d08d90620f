"""One result of a check, and what several checks need."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Literal, NamedTuple, TypeAlias

Status: TypeAlias = Literal["ok", "warn", "fail", "absent"]


class Check(NamedTuple):
    """One result of a check.

    Attributes:
        name: what was looked at.
        status: "fail" for something asked for that is broken, "absent" for something optional
            that is not there, "warn" for what works but should be known.
        detail: what was found.
        fix: what to do about it.
    """

    name: str
    status: Status
    detail: str
    fix: str = ""


def installed_version(*distributions: str) -> str | None:
    """Return the version of the first of these distributions that is installed."""
    for name in distributions:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None

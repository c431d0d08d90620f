"""What a module of measurements consists of."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Measurement(NamedTuple):
    """One row of the table.

    Attributes:
        name: what is measured, under which load.
        unit: of the value.
        bound: what it must be, for readers.
        measure: sets everything up, and returns the value; runs in a process of its own.
    """

    name: str
    unit: str
    bound: str
    measure: Callable[[], float]

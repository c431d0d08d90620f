"""Thousands of contexts that are equal, or nearly: memory grows with their number, no faster."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable

import pytest

from contextpilot import ContextPilot

BASE = list(range(20))
Shape = Callable[[random.Random, int], list[int]]


def equal(_draw: random.Random, _number: int) -> list[int]:
    return BASE


def one_differs(draw: random.Random, number: int) -> list[int]:
    at = draw.randrange(20)
    return [*BASE[:at], 100 + number, *BASE[at + 1 :]]


def peak_bytes(shape: Shape, number: int, *, together: bool) -> int:
    draw = random.Random(1)
    contexts = [shape(draw, one) for one in range(number)]
    pilot = ContextPilot()
    tracemalloc.start()
    try:
        if together:
            pilot.reorder(contexts)
        else:
            for context in contexts:
                pilot.reorder(context)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("together", [True, False], ids=["batch", "index"])
@pytest.mark.parametrize("shape", [equal, one_differs])
def test_memory_grows_no_faster_than_the_contexts(shape: Shape, together: bool) -> None:
    peak_bytes(shape, 10, together=together)  # what is imported then is kept
    few = peak_bytes(shape, 400, together=together)
    many = peak_bytes(shape, 1600, together=together)
    assert many < 5 * few
    assert many < 128 << 20

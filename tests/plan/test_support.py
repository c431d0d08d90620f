"""The support window against counting in plain lists."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contextpilot.plan.support import SupportWindow

contexts = st.lists(st.integers(0, 4), max_size=5)


def ordered_by_counting(
    window: list[list[int]], placed: list[int], rest: list[int]
) -> tuple[list[int], int]:
    chosen: list[int] = []
    while True:
        left = [key for key in rest if key not in chosen]
        counts = [sum({*placed, *chosen, key} <= {*c} for c in window) for key in left]
        if not left or not max(counts):
            return chosen + left, len(chosen)
        chosen.append(left[counts.index(max(counts))])


@given(
    st.lists(contexts, min_size=2, max_size=12),
    st.integers(1, 10),
    st.permutations(range(6)),
    st.integers(0, 3),
)
@settings(max_examples=300)
def test_order_equals_counting_in_the_last_contexts(
    history: list[list[int]], size: int, keys: list[int], split: int
) -> None:
    window = SupportWindow(size)
    for context in history:
        window.add(context)
    recent = history[-size:]
    placed, rest = keys[:split], keys[split:]
    assert window.order(placed, rest) == ordered_by_counting(recent, placed, rest)
    assert len(window) == len(recent)
    assert {key for key in range(6) if key in window} == {key for c in recent for key in c}
    window.clear()
    assert window.order(placed, rest) == (rest, 0)
    assert len(window) == 0


def test_memory_holds_no_block_that_left_the_window() -> None:
    window = SupportWindow(4)
    for number in range(1000):
        window.add([number, number + 1])
    assert len(window._masks) == 5
    assert max(window._masks.values()) < 1 << 4


def test_size_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="size"):
        SupportWindow(0)

"""The support window against counting in plain lists."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contextpilot.plan.support import SupportWindow

contexts = st.lists(st.integers(0, 4), max_size=5)


def share_by_counting(window: list[list[int]], keys: list[int], held: list[int]) -> float:
    """Return the part of the window that holds `held`, by level of overlap with `keys`."""
    overlaps = [len({*context} & {*keys}) for context in window]
    top = max(overlaps, default=0)
    levels = {max(1, int(top * part)) for part in (1, 0.7, 0.4)}
    weights = [max([0, *(own for own in levels if own <= each)]) ** 4 for each in overlaps]
    if not top or not sum(weights):
        return 0.0
    together = zip(window, weights, strict=True)
    return sum(weight for context, weight in together if {*held} <= {*context}) / sum(weights)


@pytest.mark.slow
@given(
    st.lists(contexts, min_size=2, max_size=12),
    st.integers(1, 10),
    st.lists(st.integers(0, 5), unique=True),
    st.integers(0, 3),
)
@settings(max_examples=300)
def test_shares_equal_counting_in_the_last_contexts(
    history: list[list[int]], size: int, keys: list[int], split: int
) -> None:
    window = SupportWindow(size)
    for context in history:
        window.add(context)
    recent = history[-size:]
    near = window.near(keys)
    held = keys[:split]
    assert near.share(near.holding(held)) == pytest.approx(share_by_counting(recent, keys, held))
    assert set(near.masks) == {key for key in keys if any(key in c for c in recent)}
    assert len(window) == len(recent)
    assert {key for key in range(6) if key in window} == {key for c in recent for key in c}
    window.clear()
    assert not window.near(keys).holding([])
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

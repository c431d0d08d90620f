"""The support window against counting in plain lists."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import FULL, blocks_of, new_planner, run

from contextpilot.plan.support import SupportWindow

contexts = st.lists(st.integers(0, 4), max_size=5)


WEIGHTS = [10, 25, 40, 55, 900, 30]


def share_by_counting(
    window: list[list[int]], keys: list[int], held: list[int], in_small_cache: bool
) -> float:
    """Return the part of the window that holds `held`, by level of overlap with `keys`."""
    parts, power = ((1, 0.75, 0.5, 0.25), 3) if in_small_cache else ((1, 0.85, 0.7, 0.55), 8)
    known = {key for key in keys if any(key in context for context in window)}
    mean = sum(WEIGHTS[key] for key in known) / max(1, len(known))
    rounded = {
        key: 1 if WEIGHTS[key] < 0.7 * mean else 4 if WEIGHTS[key] > 1.4 * mean else 2
        for key in known
    }
    overlaps = [sum(rounded[key] for key in {*context} & known) for context in window]
    top = max(overlaps, default=0)
    levels = {max(1, int(top * part)) for part in parts}
    weights = [max([0, *(own for own in levels if own <= each)]) ** power for each in overlaps]
    if not top:
        return 0.0
    together = zip(window, weights, strict=True)
    return sum(weight for context, weight in together if {*held} <= {*context}) / sum(weights)


@pytest.mark.slow
@given(
    st.lists(contexts, min_size=2, max_size=12),
    st.integers(1, 10),
    st.lists(st.integers(0, 5), unique=True),
    st.integers(0, 3),
    st.booleans(),
)
@settings(max_examples=300)
def test_shares_equal_counting_in_the_last_contexts(
    history: list[list[int]], size: int, keys: list[int], split: int, in_small_cache: bool
) -> None:
    window = SupportWindow(size)
    for context in history:
        window.add(context)
    recent = history[-size:]
    near = window.near({key: WEIGHTS[key] for key in keys}, in_small_cache)
    held = keys[:split]
    holding = near.all
    for mask in near.masks[:split]:
        holding &= mask
    expected = share_by_counting(recent, keys, held, in_small_cache)
    assert near.share(holding) == pytest.approx(expected)
    assert (near.nearest(holding) > 0) == (expected > 0)
    assert [mask > 0 for mask in near.masks] == [any(key in c for c in recent) for key in keys]
    assert len(window) == len(recent)
    assert {key for key in range(6) if key in window} == {key for c in recent for key in c}
    window.clear()
    assert not window.near({key: WEIGHTS[key] for key in keys}).all
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


def test_among_equally_supported_blocks_rank_decides() -> None:
    planner = new_planner()
    for keys in ([0, 1, 2, 3], [0, 1, 2, 3]):
        run(planner, keys, FULL)
    planner.index.clear()
    assert planner.plan(blocks_of([6, 3, 1, 2]), FULL).order == (1, 2, 3, 0)


def test_contexts_that_share_heavy_blocks_are_nearer_than_those_that_share_many() -> None:
    planner = new_planner()
    run(planner, [6, 5, 3], FULL)
    run(planner, [0, 1], FULL)
    planner.index.clear()
    order = planner.plan(blocks_of([0, 1, 5, 6]), FULL).order
    assert order == (2, 3, 0, 1)


def test_where_the_cache_keeps_little_what_many_hold_goes_before_what_the_nearest_holds() -> None:
    """The nearest holds block 3; ten that share less hold block 6."""
    planner = new_planner()
    for _ in range(10):
        run(planner, [0, 1, 6], FULL)
    run(planner, [0, 1, 2, 3, 4, 5], FULL)
    asked = [0, 1, 2, 3, 4, 6]
    planner.index.clear()
    assert not planner.has_small_cache, "nothing was evicted"
    first = [asked[rank] for rank in planner.plan(blocks_of(asked), FULL).order]
    planner.index.insert([7])
    planner.index.empty()
    assert planner.has_small_cache
    second = [asked[rank] for rank in planner.plan(blocks_of(asked), FULL).order]
    assert first.index(3) < first.index(6)
    assert second.index(6) < second.index(3)


def test_a_cache_that_keeps_much_of_what_was_sent_is_not_small() -> None:
    planner = new_planner()
    for number in range(7):
        run(planner, [number], FULL)
    planner.index.shed(1)
    assert planner.index.num_dropped == 1
    assert not planner.has_small_cache
    planner.index.shed(6)
    assert planner.has_small_cache

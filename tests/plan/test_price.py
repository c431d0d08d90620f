"""What moves cost, and what is worth it: the price in every plan, and where anchored blocks go."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import FULL, WEIGHTS, blocks_of, contexts, new_planner, run

from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import OnlinePlanner
from contextpilot.plan.placeable import Placeable
from contextpilot.plan.price import displacement, relevances

costs = st.sampled_from([0, 1, 5, 20, 50, 200, 1000, 10**6])
distinct = st.lists(st.integers(0, 6), unique=True, max_size=7)


def taught(history: list[list[int]], limit: Bounds = FULL) -> OnlinePlanner:
    planner = new_planner()
    for keys in history:
        run(planner, keys, limit)
    return planner


def live_tokens(planner: OnlinePlanner, keys: Sequence[int]) -> int:
    return sum(WEIGHTS[key] for key in keys[: planner.index.match(keys)])


@given(st.permutations(range(7)))
def test_displacement_is_the_relevance_of_both_ranks_of_every_pair_turned_round(
    order: list[int],
) -> None:
    relevance = relevances(7)
    turned = [pair for pair in combinations(order, 2) if pair[0] > pair[1]]
    expected = sum(relevance[a] + relevance[b] for a, b in turned)
    assert displacement(order) == pytest.approx(expected)


def test_displacement_of_many_blocks_is_the_same_and_takes_no_time_with_the_square() -> None:
    many = [7919 * place % 600 for place in range(600)]
    relevance = relevances(600)
    turned = [pair for pair in combinations(many, 2) if pair[0] > pair[1]]
    assert displacement(many) == pytest.approx(sum(relevance[a] + relevance[b] for a, b in turned))

    def seconds(count: int) -> float:
        order, best = [7919 * place % count for place in range(count)], float("inf")
        relevances(count)
        for _ in range(3):
            started = time.process_time()
            displacement(order)
            best = min(best, time.process_time() - started)
        return best

    assert seconds(32_000) < 9 * seconds(8_000)  # with the square: 16 times


def test_the_most_relevant_block_put_last_displaces_about_one() -> None:
    assert displacement(range(20)) == 0
    others = sum(relevances(20)[1:])
    assert displacement([*range(1, 20), 0]) == pytest.approx(1 + others)
    assert displacement([1, 0, 2, 3]) > displacement([0, 1, 3, 2])


@pytest.mark.slow
@given(contexts, distinct, costs, costs)
@settings(max_examples=300)
def test_a_higher_cost_never_displaces_more(
    history: list[list[int]], keys: list[int], one: int, other: int
) -> None:
    planner = taught(history)
    low, high = sorted((one, other))
    limits = [Bounds(displacement_cost=cost, anchor="none") for cost in (low, high)]
    moved = [displacement(planner.plan(blocks_of(keys), limit).order) for limit in limits]
    assert moved[0] >= moved[1] - 1e-9


@pytest.mark.slow
@given(contexts, distinct, costs)
@settings(max_examples=300)
def test_nothing_moves_without_tokens_that_are_live_or_known_to_recur(
    history: list[list[int]], keys: list[int], cost: int
) -> None:
    planner = taught(history)
    order = planner.plan(blocks_of(keys), Bounds(displacement_cost=cost, anchor="none")).order
    if list(order) != sorted(order):
        shared = [{*keys} & {*context} for context in history]
        known = {key for found in shared for key in found}
        worth = sum(WEIGHTS[key] for key in known)
        assert keys[order[0]] in known
        assert worth > cost * displacement(order)
        assert live_tokens(planner, keys) < worth


@pytest.mark.slow
@given(contexts, distinct)
@settings(max_examples=200)
def test_at_a_cost_beyond_every_gain_the_order_stays(
    history: list[list[int]], keys: list[int]
) -> None:
    plan = taught(history).plan(blocks_of(keys), Bounds(displacement_cost=10**9))
    assert plan.order == tuple(range(len(keys)))


def test_a_live_block_moves_for_its_tokens_only_while_they_are_worth_it() -> None:
    planner = taught([[6, 1, 2]])
    keys = [0, 3, 4, 6]
    price = displacement([3, 0, 1, 2])
    live = WEIGHTS[6] * 1.0
    below, above = int(live / price), int(1.5 * live / price)
    for cost, order in ((below, (3, 0, 1, 2)), (above, (0, 1, 2, 3))):
        limit = Bounds(displacement_cost=cost, anchor="none")
        assert planner.plan(blocks_of(keys), limit).order == order


def test_a_live_prefix_in_the_given_order_is_not_left_for_less() -> None:
    """What hits as it stands costs nothing."""
    planner = taught([[1, 2, 3], [6, 5]])
    plan = planner.plan(blocks_of([1, 2, 0, 6]), Bounds(displacement_cost=50))
    assert plan.order == (0, 1, 2, 3)
    assert plan.num_live == 2


# -- anchors -------------------------------------------------------------------------------------


@given(contexts, distinct, st.integers(0, 3), costs)
@settings(max_examples=200)
def test_anchored_blocks_stand_last_the_most_relevant_next_to_the_question(
    history: list[list[int]], keys: list[int], count: int, cost: int
) -> None:
    limit = Bounds(displacement_cost=cost, anchor="end", anchor_blocks=count)
    planner = taught(history, limit)
    order = planner.plan(blocks_of(keys), limit).order
    assert sorted(order) == list(range(len(keys)))
    if len(keys) > 1:
        count = min(count, len(keys))
        assert list(order[len(order) - count :]) == list(range(count))[::-1]


@given(contexts, distinct, costs, st.sampled_from(["moved", "auto"]))
@settings(max_examples=200)
def test_of_prompts_that_move_the_best_block_stands_last_or_is_live_in_front(
    history: list[list[int]], keys: list[int], cost: int, anchor: str
) -> None:
    limit = Bounds(displacement_cost=cost, anchor=anchor)
    planner = taught(history, limit)
    live = planner.index.longest_prefix({key: WEIGHTS[key] for key in keys}, [], 0.25)
    order = planner.plan(blocks_of(keys), limit).order
    if list(order) != sorted(order) and (cost or anchor == "moved"):
        assert order[-1] == 0 or keys[0] in live


@pytest.mark.parametrize("cost", [0, 25])
def test_a_best_block_that_is_live_in_front_stays_there(cost: int) -> None:
    limit = Bounds(displacement_cost=cost, anchor="moved")
    planner = taught([[5, 1, 2], [5, 1, 3]], FULL)
    assert planner.plan(blocks_of([5, 0, 1]), limit).order == (0, 2, 1)
    assert planner.plan(blocks_of([0, 5, 1]), limit).order == (1, 2, 0)


@pytest.mark.parametrize(
    ("held", "keys", "cost", "order"),
    [
        ([5, 6, 4], [6, 5, 4], 25, (1, 0, 2)),  # 140 tokens from the best block on
        ([5, 6, 4], [6, 5, 4], 36, (1, 2, 0)),
        ([5, 1, 2], [1, 5, 2], 17, (1, 0, 2)),  # 70
        ([5, 1, 2], [1, 5, 2], 18, (1, 2, 0)),
        ([5, 2, 1], [5, 1, 2], 18, (0, 2, 1)),  # it comes first
    ],
)
def test_a_best_block_that_is_live_behind_others_stays_there_for_four_times_the_price(
    held: list[int], keys: list[int], cost: int, order: tuple[int, ...]
) -> None:
    planner = taught([held], FULL)
    assert planner.plan(blocks_of(keys), Bounds(displacement_cost=cost)).order == order


@pytest.mark.parametrize("placed", [[], [3]])
def test_only_as_many_blocks_as_are_anchored_stand_in_front(placed: list[int]) -> None:
    context = Placeable(blocks_of([0, 1, 2, 3]), Bounds(anchor_blocks=2, anchor="moved"))
    assert not context.stands_between(placed, [1, 2])
    assert context.stands_between(placed, [1, 0, 2]) == bool(placed)
    assert context.stands_between(placed, [2, 1]) == bool(placed)
    assert context.stands_between(placed, [2, 3, 0])


@given(contexts, distinct)
def test_the_default_anchors_nothing_at_no_price(history: list[list[int]], keys: list[int]) -> None:
    planner, context = taught(history), blocks_of(keys)
    plain = Bounds(displacement_cost=0, anchor="none")
    assert planner.plan(context, Bounds(displacement_cost=0)) == planner.plan(context, plain)


def test_pinned_blocks_are_never_anchored() -> None:
    limit = Bounds(pin_first=1, anchor="end", anchor_blocks=2)
    assert new_planner().plan(blocks_of([0, 1, 2, 3]), limit).order == (0, 2, 3, 1)
    limit = Bounds(max_shift=1, anchor="end")
    assert new_planner().plan(blocks_of([0, 1, 2, 3]), limit).order == (1, 0, 2, 3)


@pytest.mark.parametrize("anchor", ["last", "", None, 1])
def test_an_unknown_anchor_is_an_error_that_names_it(anchor: object) -> None:
    with pytest.raises(ValueError, match="anchor must be one of auto, none, moved, end"):
        Bounds(anchor=anchor)  # type: ignore[arg-type]

"""What clusters share in front: what it displaces, and that the best of it is chosen."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contextpilot.plan.bounds import Bounds
from contextpilot.plan.front import Fronts
from contextpilot.plan.price import displacement
from contextpilot.plan.tree import agglomerate

WEIGHTS = np.array([20, 30, 40, 50, 60, 70, 80])
orders = st.permutations(range(7)).flatmap(
    lambda order: st.integers(1, 7).map(lambda length: list(order[:length]))
)
costs = st.sampled_from([0, 5, 20, 50, 200, 10**6])


def fronts_of(contexts: list[list[int]]) -> Fronts:
    return Fronts.of([np.array(numbers, np.int64) for numbers in contexts], len(WEIGHTS))


def moved_to_front(context: list[int], front: list[int]) -> float:
    """Displacement of a context whose front is placed first, in this order."""
    order = [*front, *(number for number in context if number not in front)]
    return displacement([context.index(number) for number in order])


@given(orders, st.data())
def test_a_front_displaces_its_reach_less_its_relevance(
    context: list[int], data: st.DataObject
) -> None:
    front = [number for number in context if data.draw(st.booleans())]
    fronts = fronts_of([context])
    reach, relevance = (matrix.toarray()[0, front].sum() for matrix in fronts[:0:-1])
    assert reach - len(front) * relevance == pytest.approx(moved_to_front(context, front))


@given(orders, st.integers(0, 127), st.integers(0, 127), costs)
@settings(max_examples=200)
def test_of_contexts_in_one_order_the_best_front_is_worth_what_it_saves_less_what_it_displaces(
    context: list[int], first: int, second: int, cost: int
) -> None:
    pair = [[n for n in context if chosen >> n & 1] for chosen in (first, second)]
    joined = fronts_of(pair).join([[0, 1]], WEIGHTS, cost)
    front = joined.front(0).tolist()
    moved = sum(moved_to_front(own, front) for own in pair)
    assert joined.worth[0] == pytest.approx(WEIGHTS[front].sum() - cost * moved)
    common = [number for number in pair[0] if number in pair[1]]
    for some in ([], common, *([number] for number in common)):
        moved = sum(moved_to_front(own, some) for own in pair)
        assert joined.worth[0] >= WEIGHTS[some].sum() - cost * moved - 1e-6


@given(st.lists(orders, min_size=2, max_size=4), costs)
def test_a_front_stands_first_in_the_joined_clusters(contexts: list[list[int]], cost: int) -> None:
    """Another front is then priced from the order in which they stand, by the ranks they had."""
    fronts = fronts_of(contexts)
    joined = fronts.join([list(range(len(contexts)))], WEIGHTS, cost)
    front = joined.front(0).tolist()
    cluster = joined.clusters(len(WEIGHTS))
    relevance = fronts.relevance.toarray().sum(axis=0)
    for number in front:
        before = front[: front.index(number)]
        alone = relevance[number] * len(before) + relevance[before].sum()
        assert cluster.reach[0, number] - cluster.relevance[0, number] == pytest.approx(alone)


@given(st.lists(orders, min_size=2, max_size=6))
def test_at_no_cost_all_that_is_common_is_shared(contexts: list[list[int]]) -> None:
    pairs = np.array(list(combinations(range(len(contexts)), 2)))
    worth, length = fronts_of(contexts).weigh(pairs, WEIGHTS, 0)
    for (a, b), tokens, count in zip(pairs, worth, length, strict=True):
        common = {*contexts[a]} & {*contexts[b]}
        assert (tokens, count) == (sum(WEIGHTS[number] for number in common), len(common))


@given(st.lists(orders, max_size=9), costs, st.sampled_from([1, 30, 2_000_000]))
@settings(max_examples=150)
def test_what_a_node_has_in_front_its_children_have_too(
    contexts: list[list[int]], cost: int, chunk: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("contextpilot.plan.front._CHUNK_ENTRIES", chunk)
        tree = agglomerate(
            [np.array(numbers) for numbers in contexts], WEIGHTS, Bounds(displacement_cost=cost)
        )
    fronts = {**dict(enumerate(map(set, contexts))), **tree.shared}
    for node, children in tree.children.items():
        front = tree.shared[node].tolist()
        assert len(front) == len({*front})
        assert all({*front} <= {*np.asarray([*fronts[child]]).tolist()} for child in children)
    leaves = [leaf for leaf in range(len(contexts)) if leaf in tree.roots]
    assert len(leaves) + sum(map(tree.size, set(tree.roots) - {*leaves})) == len(contexts)


def test_a_partner_that_spares_displacement_wins_over_one_that_shares_a_little_more() -> None:
    """The heaviest overlap stands at the other end of the context."""
    contexts = [[0, 1, 2, 3, 4], [4, 5, 6, 3], [0, 1, 6, 5]]
    arrays = [np.array(numbers) for numbers in contexts]
    weights = np.array([50, 50, 10, 52, 52, 10, 10])
    free = agglomerate(arrays, weights, Bounds(displacement_cost=0))
    priced = agglomerate(arrays, weights, Bounds(displacement_cost=25))
    assert [*free.children[3]] == [0, 1]
    assert sorted(priced.children[3]) == [0, 2]
    assert priced.shared[3].tolist() == [0, 1]

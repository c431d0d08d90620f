"""Partners and the spanning bound against comparing every pair."""

from __future__ import annotations

import random
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import overlap

from contextpilot.plan.overlaps import common, cpu, partners
from contextpilot.plan.overlaps.base import num_pairs, set_matrix, weighed
from contextpilot.plan.overlaps.bound import spanning_bound
from contextpilot.plan.overlaps.cpu import CPU
from contextpilot.plan.overlaps.partners import find_near, find_partners, who_searches
from contextpilot.plan.overlaps.sample import most_for_a_block, name_hash, sampled_postings

set_lists = st.lists(st.frozensets(st.integers(0, 9), max_size=6), min_size=1, max_size=12)
weight_lists = st.lists(st.integers(1, 50), min_size=10, max_size=10)


def matrix(sets: list[frozenset[int]], num_blocks: int = 10):
    return set_matrix([np.array(sorted(s), np.int64) for s in sets], num_blocks)


def sample_from_now_on(patch: pytest.MonkeyPatch, pairs_per_row: int) -> None:
    """Search among samples, however few sets there are."""
    patch.setattr(partners, "_EXACT_PAIRS", -1)
    patch.setattr(partners, "_EXACT_PAIRS_PER_SET", 0)
    patch.setattr(partners, "_SAMPLED_PAIRS", 0)
    patch.setattr(partners, "_PAIRS_PER_ROW", pairs_per_row)


def check_partners(
    sets: list[frozenset[int]], weights: list[int], rows: list[int], exact: bool
) -> int:
    """Check a search; return how many rows got a best partner."""
    by_block = dict(enumerate(weights))
    names = np.arange(len(sets)) * 7 + 3
    found = find_partners(
        matrix(sets, len(weights)), np.array(weights), np.array(rows, np.int64), names
    )
    num_best = 0
    for row, position, score in zip(rows, found.positions, found.scores, strict=True):
        others = [overlap(sets[row], sets[j], by_block) for j in range(len(sets)) if j != row]
        best = max(others, default=0)
        assert position != row
        if position < 0:
            assert score == 0
        else:
            assert score == overlap(sets[row], sets[position], by_block) > 0
        assert not exact or score == best
        num_best += score == best
    return num_best


@given(set_lists, weight_lists, st.data())
@settings(max_examples=200)
def test_exact_partners_have_the_greatest_overlap(
    sets: list[frozenset[int]], weights: list[int], data: st.DataObject
) -> None:
    rows = data.draw(st.lists(st.integers(0, len(sets) - 1), unique=True))
    check_partners(sets, weights, rows, exact=True)


@given(set_lists, weight_lists)
@settings(max_examples=50)
def test_small_chunks_change_nothing(sets: list[frozenset[int]], weights: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "_CHUNK_PAIRS", 3)
        check_partners(sets, weights, list(range(len(sets))), exact=True)


@given(set_lists, weight_lists, st.sampled_from([0.0, 0.3, 0.7, 1.0]), st.integers(1, 4))
@settings(max_examples=300)
def test_strong_pairs_are_those_of_comparing_all(
    sets: list[frozenset[int]], weights: list[int], share: float, probes: int
) -> None:
    """Whichever rows tell what is weak, and whatever multiplies."""
    by_block, rows = dict(enumerate(weights)), np.arange(len(sets))
    overlaps = [
        [i != j and overlap(a, b, by_block) for j, b in enumerate(sets)] for i, a in enumerate(sets)
    ]
    strong = [
        (i, j, score)
        for i, scores in enumerate(overlaps)
        for j, score in enumerate(scores)
        if score and score >= share * max(scores)
    ]
    held = matrix(sets)
    for multiply in (cpu.csr_matmat, None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cpu, "_PROBES", probes)
            patch.setattr(cpu, "csr_matmat", multiply)
            searched = weighed(held, np.array(weights))
            (pairs,) = CPU.strong_pairs(searched, held.T.tocsr(), rows, share)
        assert sorted(zip(*(values.tolist() for values in pairs), strict=True)) == strong
        assert pairs.row.tolist() == sorted(pairs.row.tolist())


@given(
    set_lists,
    weight_lists,
    st.sampled_from([0.3, 0.7, 1.0]),
    st.integers(1, 12),
    st.sampled_from([1, 3, 16]),
    st.sampled_from([3, 4_000_000]),
)
@settings(max_examples=300)
def test_common_blocks_set_aside_change_no_strong_pair(
    sets: list[frozenset[int]],
    weights: list[int],
    share: float,
    probes: int,
    most: int,
    chunk: int,
) -> None:
    """However many there are, and of sets too that share nothing else."""
    held, rows = matrix(sets), np.arange(len(sets))
    searched, postings = weighed(held, np.array(weights)), held.T.tocsr()
    wanted = strong_pairs(searched, postings, rows, share)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "_MOST", most)
        patch.setattr(common, "_HOLDERS", 1)
        patch.setattr(common, "_SHARE", 0.0)
        patch.setattr(cpu, "_PROBES", probes)
        patch.setattr(cpu, "_CHUNK_PAIRS", chunk)
        assert len(common.common_blocks(np.diff(postings.indptr))) == min(
            most, len(frozenset().union(*sets))
        )
        assert strong_pairs(searched, postings, rows, share) == wanted


def strong_pairs(searched: Any, postings: Any, own: np.ndarray, share: float) -> list[Any]:
    """Return all pairs of a search, sorted; their rows come in order."""
    found: list[Any] = []
    for pairs in CPU.strong_pairs(searched, postings, own, share):
        rows = pairs.row.tolist()
        assert rows == sorted(rows)
        assert not found or not rows or rows[0] > found[-1][0]
        found += sorted(zip(*(values.tolist() for values in pairs), strict=True))
    return found


def test_sixteen_common_blocks_are_as_heavy_as_short_numbers_can_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sums of six of them are still short numbers, those of all sixteen are not."""
    draw = random.Random(3)
    sets = [frozenset(draw.sample(range(24), 6)) for _ in range(80)]
    weights, rows = 300_000_000 + np.arange(24), np.arange(len(sets))
    held = matrix(sets, 24)
    wanted = find_near(held, weights, rows, rows).tolist()
    monkeypatch.setattr(common, "_HOLDERS", 1)
    monkeypatch.setattr(common, "_SHARE", 0.0)
    assert len(common.common_blocks(np.diff(held.T.tocsr().indptr))) == 16
    assert find_near(held, weights, rows, rows).tolist() == wanted
    assert find_near(held, weights * 2, rows, rows).tolist() == wanted


def test_blocks_are_common_where_they_make_most_pairs() -> None:
    """The most common first; none where setting them aside would gain little."""
    held = np.full(5_000, 10)
    held[[7, 3, 11]] = 5_000, 2_000, 1_023
    assert common.common_blocks(held).tolist() == [7, 3]
    assert common.followed(held)[[7, 3, 11, 0]].tolist() == [0, 0, 1_023, 10]
    assert common.common_blocks(np.full(2_000, 1_024)).tolist() == []
    assert len(common.common_blocks(np.full(20, 1_024))) == 16
    assert common.common_blocks(np.zeros(0, np.int64)).tolist() == []


@given(set_lists, weight_lists, st.integers(1, 20), st.sampled_from([3, 8_000_000]))
@settings(max_examples=200)
def test_sampled_partners_never_carry_a_wrong_score(
    sets: list[frozenset[int]], weights: list[int], pairs_per_row: int, chunk: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        sample_from_now_on(patch, pairs_per_row)
        patch.setattr(cpu, "_CHUNK_PAIRS", chunk)
        check_partners(sets, weights, list(range(len(sets))), exact=False)


def zipf_sets(count: int, size: int = 12) -> tuple[list[frozenset[int]], list[int]]:
    draw = np.random.default_rng(3)
    popularity = 1 / np.arange(1, 201) ** 0.8
    popularity /= popularity.sum()
    sets = [frozenset(draw.choice(200, size, replace=False, p=popularity)) for _ in range(count)]
    return sets, draw.integers(10, 400, 200).tolist()


def test_sampled_partners_are_often_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    sets, weights = zipf_sets(300)
    whole = num_pairs(matrix(sets, 200)) / len(sets)
    sample_from_now_on(monkeypatch, int(whole / 2))
    assert check_partners(sets, weights, list(range(len(sets))), exact=False) >= 0.5 * len(sets)


def test_a_sample_of_all_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    sets, weights = zipf_sets(120)
    sample_from_now_on(monkeypatch, 1_000_000)
    monkeypatch.setattr(partners, "_SAMPLED_SHARE", 1.0)
    monkeypatch.setattr(partners, "_MAX_COMPARED", 1_000)
    check_partners(sets, weights, list(range(len(sets))), exact=True)


@given(set_lists, st.integers(-1, 60), st.data())
def test_who_searches_among_all_takes_no_more_pairs_than_it_may(
    sets: list[frozenset[int]], exact: int, data: st.DataObject
) -> None:
    """One searches at least; all do where that takes no more."""
    rows = data.draw(st.lists(st.integers(0, len(sets) - 1), unique=True, min_size=1))
    rows.sort()
    with pytest.MonkeyPatch.context() as patch:
        sample_from_now_on(patch, 1)
        patch.setattr(partners, "_EXACT_PAIRS", exact)
        patch.setattr(partners, "_WORTH", 1e9)
        some = who_searches(matrix(sets), np.array(rows), np.arange(len(sets)) + 5).tolist()
    pairs = [sum(len(sets[row] & other) for other in sets) for row in rows]
    assert some == sorted({*some} & {*range(len(rows))})
    assert len(some) == 1 or sum(pairs[at] for at in some) <= exact
    assert some
    assert len(some) == len(rows) or sum(pairs) > exact


@pytest.mark.parametrize(("pool", "all_search"), [(20, False), (4_000, True)])
def test_all_search_a_sample_unless_few_would_be_found_by_it(
    monkeypatch: pytest.MonkeyPatch, pool: int, all_search: bool
) -> None:
    """Blocks that all hold many times stand for few sets, those that few hold for all of them."""
    draw = np.random.default_rng(5)
    sets = [frozenset([0, *draw.choice(pool, 4, replace=False)]) for _ in range(600)]
    sample_from_now_on(monkeypatch, 12)
    rows = np.arange(len(sets))
    some = who_searches(matrix(sets, pool), rows, rows)
    assert (len(some) == len(sets)) == all_search


@given(set_lists, st.integers(1, 5))
def test_a_block_stands_for_so_many_of_those_that_hold_it(
    sets: list[frozenset[int]], most: int
) -> None:
    postings = sampled_postings(matrix(sets), name_hash(np.arange(len(sets))), most)
    for block in range(10):
        held = {i for i, own in enumerate(sets) if block in own}
        found = postings[block].indices.tolist()
        assert {*found} <= held
        assert len(found) == min(most, len(held))


@given(set_lists, st.integers(1, 5))
def test_blocks_of_equal_holders_stand_for_the_same_ones(
    sets: list[frozenset[int]], most: int
) -> None:
    both = [own - {8, 9} | ({8, 9} if own & {8, 9} else set()) for own in sets]
    postings = sampled_postings(matrix(both), name_hash(np.arange(len(both))), most)
    assert sorted(postings[8].indices) == sorted(postings[9].indices)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 99)), min_size=1), st.integers(0, 9_000)
)
def test_a_sample_takes_no_more_pairs_than_it_may(
    blocks: list[tuple[int, int]], num_pairs: int
) -> None:
    asked, held = np.array(blocks).T
    most = most_for_a_block(asked, held, num_pairs)
    assert most >= 1
    assert most == 1 or asked @ np.minimum(held, most) <= num_pairs


@given(set_lists, weight_lists, st.sampled_from([2, 8_000_000]), st.sampled_from([1, 4]))
@settings(max_examples=150)
def test_near_sets_overlap_nearly_as_much_as_the_best(
    sets: list[frozenset[int]], weights: list[int], chunk: int, most: int
) -> None:
    by_block, rows = dict(enumerate(weights)), np.arange(len(sets))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "_CHUNK_PAIRS", chunk)
        patch.setattr(partners, "_MAX_NEAR", most)
        pairs = find_near(matrix(sets), np.array(weights), rows, rows)
    for row in rows.tolist():
        overlaps = [overlap(sets[row], other, by_block) for other in sets]
        overlaps[row] = 0
        near = pairs[1, pairs[0] == row].tolist()
        close = [score for score in overlaps if score and score >= 0.7 * max(overlaps)]
        assert (
            sorted((overlaps[other] for other in near), reverse=True)
            == sorted(close, reverse=True)[:most]
        )
        assert len({*near}) == len(near)
    assert pairs[0].tolist() == sorted(pairs[0].tolist())


@given(set_lists, weight_lists, st.integers(1, 20))
@settings(max_examples=60)
def test_beyond_the_exact_range_the_best_that_is_found_is_near(
    sets: list[frozenset[int]], weights: list[int], pairs_per_row: int
) -> None:
    rows = np.arange(len(sets))
    with pytest.MonkeyPatch.context() as patch:
        sample_from_now_on(patch, pairs_per_row)
        found = find_partners(matrix(sets), np.array(weights), rows, rows)
        pairs = find_near(matrix(sets), np.array(weights), rows, rows)
    at = np.flatnonzero(found.positions >= 0)
    first = np.flatnonzero(np.diff(pairs[0], prepend=-1))
    assert pairs[:, first].tolist() == [at.tolist(), found.positions[at].tolist()]


@given(st.lists(st.frozensets(st.integers(0, 5), max_size=4), min_size=2, max_size=10))
def test_ties_fall_into_pairs(sets: list[frozenset[int]]) -> None:
    """Of the heaviest pairs at least one is mutual, so that every round merges."""
    found = find_partners(
        matrix(sets, 6), np.ones(6, np.int64), np.arange(len(sets)), np.arange(len(sets))
    )
    best = found.scores.max()
    at = [i for i in range(len(sets)) if found.scores[i] == best > 0]
    assert not at or any(found.positions[found.positions[i]] == i for i in at)


@pytest.mark.slow
@given(set_lists, weight_lists, st.sampled_from([2, 20, 8_000_000]))
@settings(max_examples=150)
def test_spanning_bound_is_the_maximum_spanning_forest(
    sets: list[frozenset[int]], weights: list[int], chunk: int
) -> None:
    by_block = dict(enumerate(weights))
    pairs = sorted(
        ((overlap(sets[i], sets[j], by_block), i, j) for i, j in combinations(range(len(sets)), 2)),
        reverse=True,
    )
    tree, expected = list(range(len(sets))), 0
    for weight, i, j in pairs:
        if tree[i] != tree[j]:
            expected += weight
            old = tree[j]
            tree = [tree[i] if t == old else t for t in tree]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "_CHUNK_PAIRS", chunk)
        assert spanning_bound(matrix(sets), np.array(weights)) == expected


@given(set_lists)
def test_num_pairs_counts_shared_blocks(sets: list[frozenset[int]]) -> None:
    assert num_pairs(matrix(sets)) == sum(len(a & b) for a in sets for b in sets)


@given(set_lists, weight_lists)
@settings(max_examples=50)
def test_weights_too_heavy_for_short_numbers_change_nothing(
    sets: list[frozenset[int]], weights: list[int]
) -> None:
    rows = np.arange(len(sets))
    scale = 1 << 33
    light = find_partners(matrix(sets), np.array(weights), rows, rows)
    heavy = find_partners(matrix(sets), np.array(weights) * scale, rows, rows)
    assert heavy.positions.tolist() == light.positions.tolist()
    assert heavy.scores.tolist() == (light.scores * scale).tolist()
    near = [find_near(matrix(sets), np.array(weights) * by, rows, rows) for by in (1, scale)]
    assert near[0].tolist() == near[1].tolist()


@given(st.data(), st.integers(1, 5), st.sampled_from([1, 1 << 30, 1 << 58]))
@settings(max_examples=200)
def test_the_foremost_pairs_of_a_row_are_those_of_the_whole_order(
    data: st.DataObject, most: int, scale: int
) -> None:
    entries = st.tuples(*(st.integers(0, top) for top in (3, 3, 3, 2**64 - 1)))
    drawn = data.draw(st.lists(entries, min_size=1, max_size=40))
    columns = [*zip(*sorted(drawn), strict=True)]
    row, first, second = (np.array(column, np.int64) for column in columns[:3])
    first, second, tie = first * scale, second * scale, np.array(columns[3], np.uint64)
    kept = partners._foremost(row, most, first, second, tie)
    order = np.lexsort((tie, second, first, row))
    wanted = [at for n in set(row.tolist()) for at in [i for i in order if row[i] == n][:most]]
    chosen = kept[np.lexsort((tie[kept], second[kept], first[kept], row[kept]))]
    found = [at for n in set(row.tolist()) for at in [i for i in chosen if row[i] == n][:most]]
    assert found == wanted


def test_no_sets_at_all() -> None:
    empty = set_matrix([], 1)
    none = np.zeros(0, np.int64)
    assert len(find_partners(empty, np.ones(1, np.int64), none, none).scores) == 0
    assert find_near(empty, np.ones(1, np.int64), none, none).shape == (2, 0)
    assert spanning_bound(empty, np.ones(1, np.int64)) == 0

"""Caches that can be reused at certain lengths only: what the index makes of their points."""

import random

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from contextpilot.block import Block
from contextpilot.explain import explain_plan
from contextpilot.index import ContextIndex
from contextpilot.named import point_below, stops
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import NO_HEAD, OnlinePlanner
from contextpilot.plan.support import SupportWindow

GRANULE = 16


def sparse(dropped=0):
    index = ContextIndex()
    index.describe(GRANULE, dropped, True)
    return index


def ranges(lengths):
    return tuple((n, n) for n in sorted(lengths))


@given(
    lengths=st.sets(st.integers(1, 40)),
    tokens=st.integers(0, 700),
)
def test_the_largest_point_that_is_not_above(lengths, tokens):
    points = ranges(n * GRANULE for n in lengths)
    expected = max((n * GRANULE for n in lengths if n * GRANULE <= tokens), default=0)
    assert point_below(points, tokens) == expected


@given(ends=st.lists(st.integers(1, 90), min_size=1, max_size=8), tokens=st.integers(0, 40))
def test_with_all_points_it_is_todays_number(ends, tokens):
    """Full attention as points says the same as full attention as one number."""
    ends = [sum(ends[: n + 1]) for n in range(len(ends))]
    held, keys = tokens * GRANULE, tuple(range(len(ends)))
    plain, pointed = ContextIndex(), sparse()
    plain.describe(GRANULE)
    for index, points in ((plain, None), (pointed, ((GRANULE, held),) if held else ())):
        index.insert(keys, "a", ends, ends[-1] + 5)
        index.limit_cached("a", held, ends[-1] + 5, GRANULE - 1, points)
    for shared in range(len(keys) + 1):
        matched = plain.match(keys[:shared])
        if held:
            assert pointed.match(keys[:shared]) == matched
        weights = dict.fromkeys(keys[:shared], 7)
        assert pointed.longest_prefix(weights) == plain.longest_prefix(weights)


class Truth:
    """Prompts of blocks in a sparse cache: which lengths of them can be reused."""

    def __init__(self, seed, dropped=0):
        self.chance = random.Random(seed)
        self.sizes = [self.chance.randint(5, 60) for _ in range(9)]
        self.points = set()
        self.prompts = {}
        self.index = sparse(dropped)
        self.dropped = dropped

    def send(self, name):
        chance = self.chance
        known = list(self.prompts.values())
        keys = list(chance.choice(known)) if known and chance.random() < 0.6 else []
        keys = keys[: chance.randint(0, len(keys))]
        left = [n for n in range(9) if n not in keys]
        keys += chance.sample(left, min(len(left), chance.randint(1, 4)))
        self.prompts[name] = tuple(keys)
        self.index.insert(keys, name, self.ends(name), self.ends(name)[-1] + 20)

    def ends(self, name):
        keys = self.prompts[name]
        return [sum(self.sizes[key] for key in keys[: n + 1]) for n in range(len(keys))]

    def tokens(self, name):
        return [key for key in self.prompts[name] for _ in range(self.sizes[key])]

    def change(self):
        """Some lengths of some prompt come into the cache, and some leave it."""
        name = self.chance.choice(list(self.prompts))
        tokens = self.tokens(name)
        for end in range(GRANULE, len(tokens) + 1, GRANULE):
            dice = self.chance.random()
            if dice < 0.15:
                self.points.add(tuple(tokens[:end]))
            elif dice < 0.3:
                self.points.discard(tuple(tokens[:end]))

    def lengths(self, name):
        tokens = self.tokens(name)
        ends = range(GRANULE, len(tokens) + 1, GRANULE)
        return [end for end in ends if tuple(tokens[:end]) in self.points]

    def tell(self, told):
        """As the hooks do: every request of which something changed."""
        for name in self.prompts:
            lengths = self.lengths(name)
            if told.get(name, []) == lengths:
                continue
            less = max(lengths, default=0) < max(told.get(name, []), default=0)
            told[name] = lengths
            say = self.index.limit_cached if less or not lengths else self.index.add_cached
            total = len(self.tokens(name)) + 20
            say(name, max(lengths, default=0), total, GRANULE - 1, ranges(lengths))

    def reusable(self, name, shared):
        return max((n for n in self.lengths(name) if n <= shared), default=0)


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**6), dropped=st.sampled_from([0, GRANULE]))
def test_belief_is_the_largest_point_and_never_above(seed, dropped):
    truth, told = Truth(seed, dropped), {}
    for number in range(14):
        truth.send(f"r{number}")
        truth.change()
        if truth.chance.random() < 0.2:
            truth.index.release(f"r{truth.chance.randint(0, number)}")
        if truth.chance.random() < 0.1:
            truth.index.empty()
            truth.points.clear()
            told.clear()
        truth.tell(told)
        for name, keys in truth.prompts.items():
            ends = truth.ends(name)
            for shared in range(1, len(keys) + 1):
                matched = truth.index.match(keys[:shared])
                held = truth.index.held_tokens(keys[:matched], ends[matched - 1]) if matched else 0
                real = max(0, truth.reusable(name, ends[shared - 1]) - dropped)
                assert held <= real
                weights = {key: truth.sizes[key] for key in keys[:shared]}
                path = truth.index.longest_prefix(weights)
                assert truth.index.match(path) == len(path)
            live = truth.index.live_tokens(name)
            assert live <= max(0, truth.reusable(name, ends[-1]) - dropped)


def test_points_count_towards_what_is_kept_of_requests():
    index = ContextIndex(max_blocks=500)
    index.describe(GRANULE, 0, True)
    points = ranges(n * GRANULE for n in range(1, 101))
    for number in range(40):
        index.insert((number,), f"r{number}", [1600], 1600)
        index.add_cached(f"r{number}", 1600, 1600, 0, points)
        assert index.num_named_blocks <= 500
    assert index.requests() == [f"r{number}" for number in range(36, 40)]
    for name in index.requests():
        index.forget(name)
    assert index.num_named_blocks == 0


def test_one_request_tells_it_all_and_exactly():
    index = sparse()
    index.insert("abcd", "r", [300, 600, 900, 1200], 1240)
    assert index.match("abcd") == 0  # on its way; where it can be reused nobody knows
    index.add_cached("r", 1232, 1240, GRANULE - 1, ranges([592, 1232]))
    assert [index.match("abcd"[:n]) for n in range(5)] == [0, 0, 2, 2, 2]
    assert index.held_tokens("ab", 600) == 592
    assert index.num_known("abcd") == 4
    assert index.live_tokens("r") == 1232
    index.add_cached("r", 1200, 1240, GRANULE - 1, ranges([1200]))
    assert [index.match("abcd"[:n]) for n in range(5)] == [0, 0, 0, 0, 4]


def test_what_two_requests_say_stays_while_one_says_it():
    index = sparse()
    for name, keys in (("r", "abc"), ("s", "abd")):
        index.insert(keys, name, [96, 192, 288], 300)
        index.add_cached(name, 288, 300, GRANULE - 1, ranges([192, 288]))
    index.release("r")
    assert index.match("abx") == 2
    index.release("s")
    assert index.match("abx") == 0


def test_a_dense_index_forgets_when_its_engine_turns_out_sparse():
    index = ContextIndex()
    index.insert("ab", "r")
    assert index.match("ab") == 2
    index.describe(GRANULE, 0, True)
    assert index.match("ab") == 0
    index.describe(GRANULE)
    assert index.is_sparse  # while anything is in it
    index.clear()
    index.describe(GRANULE)
    assert not index.is_sparse


def blocks(names):
    return [Block(name, name, 100, name) for name in names]


def test_the_planner_takes_what_is_reusable_before_what_was_only_sent():
    index, window = sparse(), SupportWindow()
    planner = OnlinePlanner(index, window)
    for name, sent in (("r", "abcd"), ("s", "efg")):
        plan = planner.plan(blocks(sent), Bounds(enabled=False))
        planner.learn(blocks(sent), plan, name)
    index.add_cached("r", 400, 400, GRANULE - 1, ())
    index.add_cached("s", 288, 300, GRANULE - 1, ranges([192, 288]))
    plan = planner.plan(blocks("abcefx"), Bounds())
    assert [plan.order[n] for n in range(2)] == [3, 4]
    assert plan.num_live == 2


def test_explain_says_that_it_was_sent_and_is_kept_nowhere():
    index, window = sparse(), SupportWindow()
    planner = OnlinePlanner(index, window)
    first = blocks("ab")
    planner.learn(first, planner.plan(first, Bounds()), "r")
    second = blocks("abc")
    plan = planner.plan(second, Bounds(enabled=False))
    explanation = explain_plan("s", second, plan, NO_HEAD, index, window)
    assert explanation.matched_tokens == 0
    assert explanation.reason.startswith("not kept")


@pytest.mark.parametrize("granule", [1, 16])
def test_stops_of_nothing(granule):
    assert stops([5, 500], (), granule) == ()

"""The ledger of points against an oracle that tries every length of every prompt anew."""

import random

import hypothesis.strategies as st
import pytest
from contextpilot_hooks.blocks import Registered, Step
from contextpilot_hooks.points import Cache, PointLedger
from hypothesis import given, settings

UNIT = 16
KINDS = {
    # kind: (blocks that have to be there for `end`, the lowest length implied by one in blocks)
    "full": (lambda end: range(end), lambda end: 0),
    "window": (lambda end: range(max(0, end - 3), end), lambda end: max(0, end - 3)),
    "chunks": (lambda end: range((end - 1) // 4 * 4, end), lambda end: (end - 1) // 4 * 4 + 1),
    "states": (lambda end: range(end - 1, end), lambda end: end),
}


def keys_of(path):
    return [hash(tuple(path[: n + 1])) for n in range(len(path))]


class Engine:
    """A cache with layers of several kinds; `step` and `dropped` in blocks."""

    def __init__(self, kinds, step=1, dropped=0, **bounds):
        self.kinds, self.step, self.dropped = kinds, step, dropped
        self.held = [set() for _ in kinds]
        self.prompts = {}
        self.asked = 0
        cache = Cache(UNIT, step * UNIT, dropped * step * UNIT, self.reuse, self.state, self.floor)
        self.ledger = PointLedger(cache, **bounds)
        self.index = {}

    def floor(self, length):
        dropped = self.dropped * self.step
        end = length // UNIT + dropped
        return (max(KINDS[kind][1](end) for kind in self.kinds) - dropped) * UNIT

    def state(self, key):
        return tuple(key in held for held in self.held)

    def accepts(self, keys, end):
        return all(
            all(keys[n] in held for n in KINDS[kind][0](end))
            for kind, held in zip(self.kinds, self.held, strict=True)
        )

    def reuse(self, keys):
        self.asked += 1
        ends = range(len(keys) // self.step * self.step, 0, -self.step)
        found = next((end for end in ends if self.accepts(keys, end)), 0)
        return max(0, found - self.dropped * self.step) * UNIT

    def add(self, name, path, chance):
        keys = keys_of(path)
        self.prompts[name] = keys
        for kind, held in zip(self.kinds, self.held, strict=True):
            whole = kind == "full" or chance.random() < 0.5
            held.update(keys if whole else chance.sample(keys, (len(keys) + 1) // 2))
        self.ledger.hand_over(Step([Registered(name, keys, len(keys) * UNIT + 3)], keys))

    def evict(self, chance, count):
        gone = []
        for _ in range(count):
            held = chance.choice(self.held)
            if held:
                gone.append(chance.choice(sorted(held)))
                held.discard(gone[-1])
        self.ledger.hand_over(Step([], gone))

    def reset(self):
        for held in self.held:
            held.clear()
        self.ledger.clear()

    def sync(self):
        for event in self.ledger.take():
            if event.kind == "cleared":
                self.index.clear()
            else:
                self.index[event.request] = event
        return {
            name: [n for a, b in event.points for n in range(a, b + 1, self.step * UNIT)]
            for name, event in self.index.items()
            if event.tokens
        }

    def truth(self):
        """Every length of which a prompt that goes on otherwise reuses all but what is dropped."""
        found = {}
        for name, keys in self.prompts.items():
            ends = range(self.step, len(keys) + 1, self.step)
            dropped = self.dropped * self.step
            points = [
                end * UNIT
                for end in ends
                if end > dropped and self.reuse(keys[:end]) == (end - dropped) * UNIT
            ]
            if points:
                found[name] = points
        return found


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    kinds=st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=3, unique=True),
    step=st.sampled_from([1, 1, 2]),
    dropped=st.sampled_from([0, 0, 1]),
)
def test_the_points_are_those_of_the_engine(seed, kinds, step, dropped):
    chance = random.Random(seed)
    engine = Engine(kinds, step, dropped)
    for number in range(25):
        dice = chance.random()
        if dice < 0.5:
            path = "".join(chance.choice("ab") for _ in range(chance.randint(1, 9)))
            engine.add(f"r{number % 7}", path, chance)
        elif dice < 0.9:
            engine.evict(chance, chance.randint(1, 4))
        elif dice < 0.95:
            engine.ledger.invalidate()
        else:
            engine.reset()
        if chance.random() < 0.4:
            assert engine.sync() == engine.truth()
    assert engine.sync() == engine.truth()


def test_tokens_are_the_largest_point():
    engine = Engine(["full", "states"])
    engine.add("a", "abcdef", random.Random(1))
    engine.sync()
    event = engine.index["a"]
    assert event.tokens == event.points[-1][1] == max(engine.truth()["a"])
    assert event.prompt_tokens == 6 * UNIT + 3


def test_many_lengths_that_are_implied_take_few_questions():
    engine = Engine(["full", "window"])
    path = [f"block {n}" for n in range(300)]
    for held in engine.held:
        held.update(keys_of(path))
    engine.ledger.hand_over(Step([Registered("a", keys_of(path), 5000)], []))
    [event] = engine.ledger.take()
    assert event.points == ((UNIT, 300 * UNIT),)
    assert engine.asked < 2 * 300 / 3


def test_what_stands_before_a_change_is_not_asked_for_again():
    engine = Engine(["states"])
    path = [f"block {n}" for n in range(100)]
    engine.held[0].update(keys_of(path))
    engine.ledger.hand_over(Step([Registered("a", keys_of(path), 2000)], []))
    engine.ledger.take()
    engine.ledger.take()
    engine.asked = 0
    engine.held[0].discard(keys_of(path)[97])
    engine.ledger.hand_over(Step([], [keys_of(path)[97]]))
    [event] = engine.ledger.take()
    assert event.points == ((UNIT, 97 * UNIT), (99 * UNIT, 100 * UNIT))
    assert engine.asked < 10


def test_a_question_that_fails_for_a_moment_is_asked_again():
    engine = Engine(["full"])
    failing = [True]

    def reuse(keys):
        if failing[0]:
            raise AssertionError("the engine's tables change")
        return engine.reuse(keys)

    engine.ledger.cache = engine.ledger.cache._replace(reuse=reuse)
    engine.add("a", "abc", random.Random(1))
    assert engine.sync() == {}
    failing[0] = False
    assert engine.sync() == engine.truth()


@pytest.mark.parametrize("came_back", [True, False])
def test_what_came_and_went_while_it_was_asked_for_is_asked_for_again(came_back):
    engine = Engine(["full", "states"])
    keys = engine.prompts["a"] = keys_of("abc")
    for held in engine.held:
        held.update(keys)
    engine.ledger.hand_over(Step([Registered("a", keys, 50)], keys))
    engine.sync()
    real, gone = engine.reuse, [True]

    def reuse(asked):  # between the state and the question, on the other thread
        if gone:
            engine.held[1].discard(keys[2])
            found = real(asked)
            engine.held[1].add(keys[2])
            return found
        return real(asked)

    engine.ledger.cache = engine.ledger.cache._replace(reuse=reuse)
    engine.ledger.invalidate()
    engine.sync()
    gone.clear()
    if came_back:
        engine.ledger.hand_over(Step([], [keys[2], keys[2]]))
        assert engine.sync() == engine.truth()
    else:
        assert engine.sync() != engine.truth()  # or this test would not show it


def test_bounds():
    engine = Engine(["full"], max_requests=3)
    for number in range(6):
        engine.add(f"r{number}", f"{number}xyz", random.Random(number))
    events = engine.ledger.take()
    assert {e.request for e in events if e.kind == "unfollowed"} == {"r0", "r1", "r2"}
    assert len(engine.ledger._chains) == 3


def test_no_more_ranges_than_fit_into_a_message():
    engine = Engine(["states"])
    path = [f"block {n}" for n in range(1200)]
    keys = keys_of(path)
    engine.held[0].update(keys[1::2])
    engine.ledger.hand_over(Step([Registered("a", keys, 20_000)], keys))
    [event] = engine.ledger.take()
    assert len(event.points) == 256
    assert event.tokens == 1200 * UNIT

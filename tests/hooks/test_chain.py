"""The chain ledger against an oracle that walks every request's keys anew."""

import random
import threading

import hypothesis.strategies as st
import pytest
from contextpilot_hooks.blocks import Registered, Step
from contextpilot_hooks.chain import ChainLedger
from contextpilot_hooks.ledger import Event
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

BLOCK = 16


def keys_of(path):
    return [hash(tuple(path[: n + 1])) for n in range(len(path))]


class Engine:
    """A cache of chained keys: the slow truth, and what it hands over."""

    def __init__(self, **bounds):
        self.cache = set()
        self.prompts = {}
        self.ledger = ChainLedger(BLOCK, self.cache.__contains__, **bounds)
        self.index = {}

    def add(self, name, path):
        keys = keys_of(path)
        self.prompts[name] = keys
        new = [key for key in keys if key not in self.cache]
        self.cache.update(keys)
        self.ledger.hand_over(Step([Registered(name, keys, len(keys) * BLOCK + 3)], new))

    def regrow(self, path):
        keys = keys_of(path)
        self.cache.update(keys)
        self.ledger.hand_over(Step([], keys))

    def evict(self, keys):
        self.cache.difference_update(keys)
        self.ledger.hand_over(Step([], list(keys)))

    def reset(self):
        self.cache.clear()
        self.ledger.clear()

    def sync(self):
        for event in self.ledger.take():
            if event.kind == "cleared":
                self.index.clear()
            else:
                self.index[event.request] = event.tokens
        return {name: tokens for name, tokens in self.index.items() if tokens}

    def truth(self):
        lengths = {
            name: next((n for n, key in enumerate(keys) if key not in self.cache), len(keys))
            for name, keys in self.prompts.items()
        }
        return {name: length * BLOCK for name, length in lengths.items() if length}


def test_insert_hit_evict_reset():
    engine = Engine()
    engine.add("a", "xyz")
    engine.add("b", "xyq")
    assert engine.sync() == {"a": 48, "b": 48}
    engine.evict([keys_of("xyz")[2]])
    assert engine.sync() == {"a": 32, "b": 48}
    engine.evict([keys_of("xyz")[0]])
    assert engine.sync() == {}
    engine.regrow("x")
    assert engine.sync() == {"a": 32, "b": 48}
    engine.reset()
    assert engine.sync() == {}


def test_another_request_regrows_a_shared_prefix():
    engine = Engine()
    engine.add("a", "xyz")
    engine.evict(keys_of("xyz"))
    assert engine.sync() == {}
    engine.regrow("xyw")
    assert engine.sync() == {"a": 32}


def test_the_same_id_with_another_prompt_replaces_it():
    engine = Engine()
    engine.add("a", "xyz")
    engine.add("a", "pq")
    assert engine.sync() == {"a": 32}
    engine.evict(keys_of("xyz"))
    assert engine.sync() == {"a": 32}
    assert len(engine.ledger._blocks) == 2


@pytest.mark.parametrize("bounds", [{"max_requests": 3}, {"max_blocks": 12}])
def test_bounded(bounds):
    engine = Engine(**bounds)
    for number in range(50):
        engine.add(f"r{number}", f"{chr(97 + number % 26)}{number % 10}xy")
        engine.sync()
        assert len(engine.ledger._chains) <= 3
        assert len(engine.ledger._blocks) <= 12
    kept = engine.sync()
    assert {name: engine.truth()[name] for name in kept} == kept
    assert list(kept) == ["r47", "r48", "r49"]
    assert engine.ledger.dropped == 47


def test_requests_beyond_the_bound_are_unknown_and_not_gone():
    engine = Engine(max_requests=2)
    for name in "abc":
        engine.add(name, f"system{name}")
    events = engine.ledger.take()
    assert Event("unfollowed", "a") in events
    assert {event.kind for event in events} == {"cached", "unfollowed"}


def test_what_is_shared_is_kept_and_counted_once():
    engine = Engine(max_blocks=100)
    for number in range(60):
        engine.add(f"r{number}", "the system prompt" + chr(200 + number))
    assert len(engine.sync()) == 60
    assert len(engine.ledger._blocks) == len("the system prompt") + 60
    for number in range(60, 100):
        engine.add(f"r{number}", "the system prompt" + chr(200 + number))
        engine.sync()
        assert len(engine.ledger._blocks) <= 100
    kept = engine.sync()
    assert list(kept) == [f"r{number}" for number in range(17, 100)]
    engine.evict(keys_of("the system prompt")[-1:])
    assert set(engine.sync().values()) == {16 * BLOCK}


@pytest.mark.parametrize("bounds", [{"max_requests": 3}, {"max_blocks": 9}])
def test_requests_of_which_nothing_is_left_go_first(bounds):
    engine = Engine(**bounds)
    for name in ("old", "gone", "new"):
        engine.add(name, name[:2] + "-")
    engine.evict(keys_of("go-"))
    assert engine.sync() == {"old": 48, "new": 48}
    engine.add("next", "ne+")
    assert engine.sync() == {"old": 48, "new": 48, "next": 48}
    assert engine.ledger.dropped == 0


def test_what_was_cached_and_evicted_before_anybody_looked_is_told():
    engine = Engine()
    engine.add("a", "xyz")
    engine.add("b", "xq")
    engine.evict(keys_of("xyz")[1:])
    events = engine.ledger.take()
    assert Event("truncated", "a", 16, 51) in events
    assert Event("cached", "b", 32, 35) in events
    engine.add("c", "pq")
    engine.evict(keys_of("pq"))
    assert engine.ledger.take() == [Event("truncated", "c", 0, 35)]


def test_a_tail_that_went_before_anybody_looked_is_told():
    engine = Engine()
    engine.add("a", "xyz")
    engine.evict(keys_of("xyz"))
    engine.ledger.take()
    engine.add("b", "xyzq")  # its first block is known as missing, the others as behind that
    engine.evict(keys_of("xyzq")[2:])
    told = {event.request: event for event in engine.ledger.take()}
    assert told["b"] == Event("truncated", "b", 2 * BLOCK, 4 * BLOCK + 3)


def test_a_request_on_its_way_is_not_told_to_be_gone():
    ledger = ChainLedger(BLOCK, lambda key: False)
    ledger.hand_over(Step([Registered("a", [1, 2], 35)], [7]))
    assert ledger.take() == []


def test_a_prompt_shorter_than_a_block_is_not_followed():
    ledger = ChainLedger(BLOCK, lambda key: False)
    ledger.hand_over(Step([Registered("a", [], 5)], []))
    assert ledger.take() == [Event("unfollowed", "a")]
    assert not ledger._chains


def test_dropped_chains_leave_nothing_behind_a_shared_block():
    engine = Engine(max_requests=4)
    for number in range(200):
        engine.add(f"r{number}", f"s{chr(200 + number)}")
        engine.sync()
    assert len(engine.ledger._blocks) == 5
    assert len(list(engine.ledger._blocks[keys_of("s")[0]].below())) == 4


def test_a_full_queue_is_read_anew(monkeypatch):
    monkeypatch.setattr("contextpilot_hooks.blocks._MAX_STEPS", 3)
    engine = Engine()
    engine.add("a", "xyz")
    engine.sync()
    for _ in range(5):
        engine.evict([keys_of("xyz")[1]])
    engine.regrow("pq")
    engine.regrow("st")
    assert engine.sync() == {"a": 16}


def test_invalidate_reads_anew_what_nobody_told():
    engine = Engine()
    engine.add("a", "xyz")
    engine.sync()
    engine.cache.discard(keys_of("xyz")[1])
    assert engine.sync() == {"a": 48}
    engine.ledger.invalidate()
    assert engine.sync() == {"a": 16}


def test_a_probe_that_fails_for_a_moment_is_asked_again():
    answers = [RuntimeError("changed size"), StopIteration(), True]

    def probe(key):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    ledger = ChainLedger(BLOCK, probe)
    ledger.hand_over(Step([Registered("a", [1], 20)], []))
    assert [event.tokens for event in ledger.take()] == [16]


paths = st.text("abc", min_size=1, max_size=6)


class Machine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.engine = Engine()

    @rule(name=st.integers(0, 9).map("r{}".format), path=paths)
    def add(self, name, path):
        self.engine.add(name, path)

    @rule(path=paths)
    def regrow(self, path):
        self.engine.regrow(path)

    @rule(data=st.data())
    def evict(self, data):
        if self.engine.cache:
            some = st.lists(st.sampled_from(sorted(self.engine.cache)), max_size=4, unique=True)
            self.engine.evict(data.draw(some))

    @rule()
    def reset(self):
        self.engine.reset()

    @rule()
    def snapshot(self):
        self.engine.sync()
        assert {e.request: e.tokens for e in self.engine.ledger.snapshot()} == self.engine.truth()

    @invariant()
    def exact(self):
        assert self.engine.sync() == self.engine.truth()


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), paths, st.integers(0, 3)), max_size=40))
def test_exact_when_read_only_at_the_end(actions):
    engine = Engine()
    for number, path, kind in actions:
        if kind == 3:
            engine.evict(keys_of(path)[-2:])
        elif kind == 2:
            engine.regrow(path)
        else:
            engine.add(f"r{number}", path)
    assert engine.sync() == engine.truth()


@pytest.mark.parametrize("seed", range(4))
def test_reader_and_scheduler_at_once_agree_whenever_the_scheduler_rests(seed):
    """The engine changes its tables while the reader asks; between bursts all must be exact."""
    engine, chance = Engine(), random.Random(seed)
    resting, read, done = threading.Event(), threading.Event(), threading.Event()
    wrong = []

    def reader():
        while not done.is_set():
            rests = resting.is_set()
            told = engine.sync()
            if rests:
                if told != engine.truth():
                    wrong.append((told, engine.truth()))
                resting.clear()
                read.set()

    thread = threading.Thread(target=reader)
    thread.start()
    paths = ["".join(chance.choices("ab", k=chance.randint(1, 12))) for _ in range(40)]
    for burst in range(60):
        for _ in range(40):
            act(engine, chance, paths)
        resting.set()
        assert read.wait(20), burst
        read.clear()
    done.set()
    thread.join()
    assert wrong == []


def act(engine, chance, paths):
    """One change as a scheduler makes it: the table first, then the hand-over."""
    kind, path = chance.random(), chance.choice(paths)
    if kind < 0.5:
        engine.add(f"r{chance.randrange(60)}", path)
    elif kind < 0.6:
        engine.regrow(path)
    elif kind < 0.99:
        cached = [key for key in keys_of(path) if key in engine.cache]
        engine.evict(cached[-chance.randint(1, 4) :])
    else:
        engine.reset()


def test_bad_block_size():
    with pytest.raises(ValueError, match="block_size"):
        ChainLedger(0, bool)

"""The prefix ledger and the tree watch, together, against an oracle that matches every prompt."""

from types import SimpleNamespace

import hypothesis.strategies as st
import pytest
from contextpilot_hooks.prefix import Branch, Grown, PrefixLedger, Shrunk
from contextpilot_hooks.sglang_tree import ProbedTree, TreeWatch, WalkedTree
from contextpilot_hooks.steps import Admitted
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from radix_tree import RadixTree


class Engine:
    """One tree per run, the watch beside it, and what an index would believe."""

    def __init__(self, page_size, probed, **bounds):
        self.tree = RadixTree(page_size)
        if probed:
            view = ProbedTree(self.tree, page_size)
        else:
            view = WalkedTree(self.tree, page_size, self.tree.first_page)
        self.ledger = PrefixLedger(page_size, **bounds)
        self.watch = TreeWatch(view, self.ledger, salted=False)
        self.index = {}
        self.prompts = {}
        self.ran = set()

    def admit(self, name, prompt):
        self.prompts[name] = list(prompt)
        self.ran.discard(name)
        self.watch.admit(SimpleNamespace(rid=name, origin_input_ids=list(prompt)))

    def insert(self, tokens):
        self.tree.insert(list(tokens))
        self.watch.inserted(list(tokens))

    def run(self, name, prompt, output=()):
        self.admit(name, prompt)
        self.insert(prompt)
        self.insert([*prompt, *output])
        self.ran.add(name)

    def evict(self, choices):
        for choice in choices:
            leaves = self.tree.leaves()
            if leaves:
                leaf = leaves[choice % len(leaves)]
                self.tree.delete(leaf)
                self.watch.evicted(leaf.id)
        self.watch.settle()

    def reset(self):
        self.tree.reset()
        self.watch.reset()

    def sync(self):
        for event in self.ledger.take():
            if event.kind == "cleared":
                self.index.clear()
            elif event.tokens:
                self.index[event.request] = event.tokens
            else:
                self.index.pop(event.request, None)
        return self.index

    def truth(self):
        return {name: self.tree.match(self.tree.aligned(p))[0] for name, p in self.prompts.items()}

    def check(self):
        index, truth = self.sync(), self.truth()
        for name, tokens in truth.items():
            # What waits in the queue is followed from its own first insert on.
            if name in self.ran and name in self.ledger._requests:
                assert index.get(name, 0) == tokens, name
            else:
                assert index.get(name, 0) <= tokens, name
        kept = sum(len(request.tokens) // 8 for request in self.ledger._requests.values())
        assert kept == self.ledger._kept_tokens


NAMES = st.integers(0, 12).map(lambda number: f"cp-{number:024x}")
TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=24)


class Machine(RuleBasedStateMachine):
    @initialize(page_size=st.sampled_from((1, 4)), probed=st.booleans())
    def start(self, page_size, probed):
        self.engine = Engine(page_size, probed)

    @rule(name=NAMES, prompt=TOKENS, output=st.lists(st.integers(0, 2), max_size=6))
    def run(self, name, prompt, output):
        self.engine.run(name, prompt, output)

    @rule(name=NAMES)
    def run_again(self, name):
        if name in self.engine.prompts:
            self.engine.run(name, self.engine.prompts[name])

    @rule(name=NAMES, prompt=TOKENS)
    def wait_in_queue(self, name, prompt):
        self.engine.admit(name, prompt)

    @rule(tokens=TOKENS)
    def somebody_else(self, tokens):
        self.engine.watch.admit(SimpleNamespace(rid="not ours", origin_input_ids=tokens))
        self.engine.insert(tokens)

    @rule(choices=st.lists(st.integers(0, 30), min_size=1, max_size=6))
    def evict(self, choices):
        self.engine.evict(choices)

    @rule()
    def reset(self):
        self.engine.reset()

    @rule()
    def take(self):
        self.engine.sync()

    @invariant()
    def index_is_true(self):
        if hasattr(self, "engine"):
            self.engine.check()


Machine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAgainstOracle = Machine.TestCase


def name(number):
    return f"cp-{number:024x}"


def test_a_shared_prefix_that_others_insert_again_grows_again():
    engine = Engine(page_size=1, probed=True)
    engine.run(name(1), [7, 7, 7, 1, 1])
    engine.evict([0])
    assert engine.sync() == {}
    engine.run(name(2), [7, 7, 7, 2])
    assert engine.sync() == {name(1): 3, name(2): 4}


def test_output_tokens_go_first_and_leave_the_prompt():
    engine = Engine(page_size=1, probed=False)
    engine.run(name(1), [1, 2, 3], output=[4, 5])
    engine.evict([0])
    assert engine.sync() == {name(1): 3}


def test_namespaces_do_not_grow_each_other():
    ledger = PrefixLedger(page_size=1)
    ledger.hand_over(Admitted(name(1), [1, 2], "tenant a"))
    ledger.hand_over(Grown(Branch([1, 2], 2), [1, 2], 2, "tenant b"))
    assert ledger.take() == []


def test_forgets_the_oldest_request_beyond_its_bounds():
    engine = Engine(page_size=1, probed=False, max_requests=2)
    for number in range(3):
        engine.run(name(number), [number, 5, 6])
    assert engine.sync() == {name(1): 3, name(2): 3}
    assert engine.ledger.dropped == 1


def events_of(engine):
    return [(event.kind, event.request, event.tokens) for event in engine.ledger.take()]


def test_requests_beyond_the_bound_are_unknown_and_not_gone():
    engine = Engine(page_size=1, probed=False, max_requests=1)
    engine.run(name(1), [7, 7, 1])
    engine.run(name(2), [7, 7, 2])
    assert events_of(engine) == [("unfollowed", name(1), 0), ("cached", name(2), 3)]


def test_requests_of_which_nothing_is_left_go_first():
    engine = Engine(page_size=1, probed=False, max_requests=3)
    for number in range(3):
        engine.run(name(number), [number, 5, 6])
    engine.evict([1])
    engine.run(name(3), [3, 5, 6])
    assert set(engine.sync()) == {name(0), name(2), name(3)}
    assert engine.ledger.dropped == 0


def test_what_is_all_cached_costs_no_tokens():
    engine = Engine(page_size=1, probed=False, max_tokens=10_000)
    prompts = [[1] * 50 + [number] * 10 for number in range(2, 60)]
    for number, prompt in enumerate(prompts):
        engine.run(name(number), prompt)
    assert set(engine.sync().values()) == {60}
    assert engine.ledger._kept_tokens == 0


def test_of_what_shrank_the_oldest_tokens_go_first():
    engine = Engine(page_size=1, probed=False, max_tokens=20)
    engine.run(name(1), [7] * 4 + [1] * 4)
    engine.run(name(2), [7] * 4 + [2] * 4)
    engine.run(name(3), [8] * 4)
    engine.evict([0, 0, 0, 0])
    assert engine.sync() == {}
    engine.admit(name(4), [9] * 8)  # the oldest can grow no more, and is dropped
    engine.insert([7] * 4 + [2] * 4)
    engine.insert([8] * 4)
    assert engine.sync() == {name(2): 8, name(3): 4}
    assert engine.ledger.dropped == 0


def test_requests_on_their_way_are_bounded_by_their_tokens():
    engine = Engine(page_size=1, probed=False, max_tokens=10)
    engine.run(name(0), [3] * 8)
    for number in (1, 2):
        engine.admit(name(number), [number] * 8)
    assert events_of(engine) == [("cached", name(0), 8), ("unfollowed", name(1), 0)]
    engine.run(name(2), [2] * 8)
    assert engine.sync() == {name(2): 8}


def test_branches_beyond_their_bound_are_unknown_and_not_gone():
    engine = Engine(page_size=1, probed=True)
    engine.watch._max_tokens = 10
    engine.run(name(1), [1] * 8)
    engine.run(name(2), [2] * 8)
    assert events_of(engine) == [("unfollowed", name(1), 0), ("cached", name(2), 8)]


def test_what_came_and_went_unseen_is_told():
    engine = Engine(page_size=1, probed=True)
    engine.run(name(1), [1, 2, 3])
    engine.run(name(2), [1, 2, 4])
    engine.evict([0])
    assert events_of(engine) == [("cached", name(2), 3), ("truncated", name(1), 2)]


def test_the_same_request_again_is_followed_on():
    engine = Engine(page_size=1, probed=False)
    engine.run(name(1), [1, 2, 3])
    engine.run(name(1), [1, 2, 3])
    assert engine.sync() == {name(1): 3}
    engine.run(name(1), [1, 2, 4])
    assert engine.sync() == {name(1): 3}
    engine.evict([0, 1])
    assert engine.sync()[name(1)] == 2


def test_a_full_queue_loses_everything_and_recovers(monkeypatch):
    monkeypatch.setattr("contextpilot_hooks.steps._MAX_STEPS", 8)
    engine = Engine(page_size=1, probed=True)
    engine.run(name(1), [1, 2, 3])
    engine.sync()
    for number in range(20):
        engine.insert([9, number])
    assert engine.sync() == {}
    engine.run(name(1), [1, 2, 3])
    engine.run(name(2), [1, 2, 4])
    assert engine.sync() == {name(1): 3, name(2): 3}


def test_lost_changes_leave_nothing_claimed():
    engine = Engine(page_size=1, probed=True)
    engine.run(name(1), [1, 2, 3])
    engine.watch.lose()
    assert engine.sync() == {}


def test_a_snapshot_holds_what_was_not_taken_yet():
    engine = Engine(page_size=1, probed=True)
    engine.run(name(1), [1, 2, 3])
    engine.evict([0])
    engine.run(name(2), [1, 2, 3, 4])
    held = {event.request: event.tokens for event in engine.ledger.snapshot()}
    assert held == {name(1): 3, name(2): 4}
    assert engine.ledger.take() == []


def test_without_a_request_of_ours_nothing_is_kept():
    engine = Engine(page_size=1, probed=True)
    engine.insert([1, 2, 3])
    assert not engine.watch._branches
    assert engine.ledger.take() == []


def test_an_insert_that_is_not_found_is_an_error():
    tree = RadixTree(1)
    view = WalkedTree(tree, 1, tree.first_page)
    with pytest.raises(RuntimeError, match="0 of 3 tokens"):
        view.end_of_inserted([1, 2, 3])


@given(st.integers(-3, 0))
def test_page_size_is_checked(page_size):
    with pytest.raises(ValueError, match="page_size must be at least 1"):
        PrefixLedger(page_size)


def test_members_move_with_their_branch():
    ledger = PrefixLedger(page_size=1)
    below, above = Branch([1, 2, 3], 3), Branch([1, 2], 2)
    ledger.hand_over(Admitted(name(1), [1, 2, 3], None))
    ledger.hand_over(Grown(below, [1, 2, 3], 3, None))
    ledger.hand_over(Shrunk(below, above, 2, [1, 2, 3]))
    assert [(event.kind, event.tokens) for event in ledger.take()] == [("truncated", 2)]
    ledger.hand_over(Shrunk(above, None, 0, [1, 2]))
    assert [(event.kind, event.tokens) for event in ledger.take()] == [("truncated", 0)]

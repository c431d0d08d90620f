"""The path ledger and the part watch, together, against an oracle that matches every prompt."""

import random
from itertools import pairwise
from types import SimpleNamespace

import hypothesis.strategies as st
import pytest
from contextpilot_hooks.paths import PathLedger, Told
from contextpilot_hooks.sglang_parts import CollectedNodes, Parts, PartWatch, ProbedNodes
from contextpilot_hooks.steps import Admitted
from hypothesis import given, settings
from radix_tree import RadixTree

WINDOW = 5


class PartTree(RadixTree):
    """Its nodes may have a window's cache and a state; `reuse` is the engine's own rule."""

    def reset(self):
        super().reset()
        self.root_node.has = set()

    def insert(self, key, has=("window", "state")):
        super().insert(key)
        node = self.match(self.aligned(key))[1]
        while node.parent is not None:
            if not hasattr(node, "has"):
                node.has = set()
                node.has.update({"window"} & set(has))
            node = node.parent
        node = self.match(self.aligned(key))[1]
        if node.parent is not None:
            node.has.update({"state"} & set(has))
        return node.id

    def split(self, node, at):
        upper = super().split(node, at)
        upper.has = node.has - {"state"}
        return upper

    def match_and_split(self, key):
        depth, node = self.match(self.aligned(key))
        over = self.depth(node) - depth
        if over:
            self.split(node, len(node.key) - over)

    def nodes(self):
        found = []
        stack = list(self.root_node.children.values())
        while stack:
            node = stack.pop()
            found.append(node)
            stack.extend(node.children.values())
        return {node.id: node for node in found}

    def path_of(self, node):
        path = []
        while node.parent is not None:
            path.append(node)
            node = node.parent
        return path[::-1]

    def match_full_device_prefix(self, key):
        depth, node = self.match(self.aligned(key))
        return depth, node.id, self.depth(node)

    def collect_path_info(self, ends):
        found = []
        for end in ends:
            start, path = 0, []
            for node in self.path_of(self.nodes()[end]):
                path.append(
                    SimpleNamespace(
                        node_id=node.id, path_start=start, path_end=start + len(node.key)
                    )
                )
                start += len(node.key)
            found.append(path)
        return found

    def get_component_device_value(self, node, kind):
        return "value" if kind in self.nodes()[node].has else None

    def reuse(self, key, kinds):
        """As SGLang's match: the last end of a node, or the end of the match, that all accept."""
        key = self.aligned(key)
        length, last = self.match(key)
        best, depth, run = 0, 0, float("inf")
        for node in self.path_of(last):
            part = min(len(node.key), length - depth)
            depth += part
            run = run + part if "window" in node.has else 0
            has_window = "window" in node.has and run >= WINDOW
            has_state = "state" in node.has and part == len(node.key)
            if ("window" not in kinds or has_window) and ("state" not in kinds or has_state):
                best = depth
        return best


class Engine:
    """One tree, the watch beside it, and what an index would believe of its points."""

    def __init__(self, page_size, kinds, collected=True, paired=False, **bounds):
        self.tree, self.kinds, self.paired = PartTree(page_size), kinds, paired
        nodes = (CollectedNodes if collected else ProbedNodes)(self.tree, page_size)
        window = WINDOW if "window" in kinds else 0
        self.ledger = PathLedger(page_size, paired=paired, window=window, **bounds)
        named = [kind if kind in kinds else None for kind in ("window", "state")]
        parts = Parts(named[0], window, named[1])
        self.watch = PartWatch(nodes, parts, self.ledger, salted=False)
        self.points, self.prompts, self.ran = {}, {}, set()

    def key(self, tokens):
        return list(pairwise(tokens)) if self.paired else list(tokens)

    def admit(self, name, prompt):
        self.prompts[name] = list(prompt)
        self.ran.discard(name)
        self.watch.admit(SimpleNamespace(rid=name, origin_input_ids=list(prompt)))

    def insert(self, tokens, has=("window", "state")):
        key = self.tree.aligned(self.key(tokens))
        end = self.tree.insert(key, has)
        self.watch.inserted(key, end if key else None)

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

    def empty(self, choices, kind):
        """Nodes lose a part, and the watch hears how much."""
        for choice in choices:
            nodes = [node for node in self.tree.nodes().values() if kind in node.has]
            if nodes and kind in self.kinds:
                node = sorted(nodes, key=lambda node: node.id)[choice % len(nodes)]
                node.has.discard(kind)
                self.watch.emptied(kind, len(node.key) if kind == "window" else 1)
        self.watch.settle()

    def sync(self):
        for event in self.ledger.take():
            if event.kind == "cleared":
                self.points.clear()
            elif event.kind == "unfollowed":
                self.points.pop(event.request, None)
            else:
                self.points[event.request] = event.points
                assert event.tokens == (event.points[-1][1] if event.points else 0)

    def predict(self, name, shared):
        granule, ahead = self.ledger.granule, self.ledger.ahead
        whole = shared // granule * granule
        ends = [min(last, whole) for first, last in self.points.get(name, ()) if first <= whole]
        return max(0, max(ends, default=0) - ahead)

    def check(self):
        self.sync()
        followed = self.ran & set(self.ledger._requests)
        for name, prompt in self.prompts.items():
            for shared in range(len(prompt) + 1):
                told, true = self.predict(name, shared), self.truth(prompt[:shared])
                if name in followed:
                    assert told == true, (name, shared)
                else:
                    assert told <= true, (name, shared)
        kept, stack = 0, list(self.ledger._roots.values())
        while stack:
            part = stack.pop()
            kept += len(part.units) // 8
            stack.extend(part.children.values())
        assert kept == self.ledger._kept
        keys = self.watch._keys
        assert self.watch._key_tokens == sum(map(len, keys.values()))
        assert set(keys) <= set(self.tree.nodes())

    def truth(self, tokens):
        return self.tree.reuse(self.key(tokens), self.kinds)


KINDS = (("window",), ("state",), ("window", "state"))


@given(st.integers(0, 1 << 32))
@settings(max_examples=60)
def test_what_is_told_is_what_is_matched(seed):
    chance = random.Random(seed)
    collected, paired = chance.random() < 0.5, chance.random() < 0.3
    engine = Engine(chance.choice((1, 4)), chance.choice(KINDS), collected, paired)
    for _ in range(30):
        operate(engine, chance)
        engine.check()


def operate(engine, chance):
    """One random thing that happens to an engine's tree."""

    def tokens(most=24):
        return [chance.randrange(2) for _ in range(chance.randint(1, most))]

    choices = [chance.randrange(30) for _ in range(chance.randint(1, 4))]
    (what,) = chance.choices(range(7), (35, 5, 10, 10, 10, 30, 2))
    if what == 0:
        engine.run(name(chance.randrange(10)), tokens(), tokens(6))
    elif what == 1:  # waits in the queue
        engine.admit(name(chance.randrange(10)), tokens())
    elif what == 2:  # somebody else's
        engine.insert(tokens(), chance.choice(KINDS))
    elif what == 3:  # unseen
        engine.tree.match_and_split(engine.key(tokens()))
    elif what == 4:
        engine.evict(choices)
    elif what == 5:
        engine.empty(choices, chance.choice(("window", "state")))
    else:
        engine.tree.reset()
        engine.watch.reset()


def name(number):
    return f"cp-{number:024x}"


def test_a_window_that_went_inside_takes_the_points_before_the_next_window():
    engine = Engine(1, ("window",))
    engine.run(name(1), list(range(20)))
    engine.run(name(2), [*range(10), 77, 78])
    engine.check()
    engine.empty([1], "window")  # the shared ten tokens
    engine.check()
    assert engine.points[name(1)] == ((15, 20),)
    assert engine.watch.num_searches == 0


def test_after_an_insert_only_nodes_that_had_no_window_are_asked():
    engine, asked = Engine(1, ("window",)), []
    engine.run(name(1), list(range(20)))
    part = engine.watch._tree.part
    engine.watch._tree.part = lambda node, kind: asked.append(node) or part(node, kind)
    engine.insert(list(range(20)))
    assert asked == []
    engine.insert(list(range(24)))
    assert len(asked) == 1
    engine.empty([0], "window")
    asked.clear()
    engine.insert(list(range(24)))
    assert len(asked) == 1
    engine.check()


def test_a_state_that_another_prompt_leaves_on_the_way_is_a_point_of_this_one():
    engine = Engine(1, ("state",))
    engine.run(name(1), [1, 2, 3, 4])
    engine.insert([1, 2])
    engine.sync()
    assert engine.points[name(1)] == ((2, 2), (4, 4))


def test_all_paths_are_looked_at_when_what_went_is_not_found():
    engine = Engine(1, ("window",))
    engine.run(name(1), list(range(20)))
    engine.tree.match_and_split(list(range(8)))
    engine.empty([1], "window")  # the upper part, which nobody saw
    engine.check()
    assert engine.watch.num_searches == 1
    assert engine.points[name(1)] == ((13, 20),)


@pytest.mark.parametrize("page_size", [1, 4])
def test_pairs_need_one_token_more_than_is_reused(page_size):
    engine = Engine(page_size, ("window",), paired=True)
    engine.run(name(1), list(range(13)))
    engine.sync()
    assert engine.predict(name(1), 12) == {1: 11, 4: 8}[page_size]
    assert engine.predict(name(1), 8) == {1: 7, 4: 4}[page_size]


def test_namespaces_tell_nothing_of_each_other():
    ledger = PathLedger(1)
    ledger.hand_over(Admitted(name(1), [1, 2], "a"))
    ledger.hand_over(Told([1, 2], 2, "b", 2, [(1, 2)], [(1, 2)]))
    assert ledger.take() == []


def test_requests_beyond_their_bound_are_unknown_and_not_gone():
    engine = Engine(1, ("state",), max_requests=2)
    for number in range(3):
        engine.run(name(number), [number, 5, 6])
    events = [(event.kind, event.request) for event in engine.ledger.take()]
    assert ("unfollowed", name(0)) in events
    assert [request for kind, request in events if kind == "cached"] == [name(1), name(2)]
    assert engine.ledger.dropped == 1


def test_requests_of_which_nothing_is_left_go_first():
    engine = Engine(1, ("state",), max_requests=2)
    engine.run(name(1), [1, 5])
    engine.run(name(2), [2, 5])
    engine.evict([1])
    engine.run(name(3), [3, 5])
    engine.sync()
    assert engine.points[name(1)] == engine.points[name(3)] == ((2, 2),)
    assert engine.ledger.dropped == 0


def test_prompts_beyond_their_tokens_are_unknown_and_what_they_share_counts_once():
    engine = Engine(1, ("state",), max_tokens=24)
    for number in range(5):
        engine.admit(name(number), [*range(16), 100 + number, 7])
    engine.ledger.settle()
    assert list(engine.ledger._requests) == [name(1), name(2), name(3), name(4)]
    assert engine.ledger._kept == 24


def test_paths_of_the_watch_beyond_their_bound_lose_everything_and_recover():
    engine = Engine(1, ("window",))
    engine.watch._max_tokens = 10
    engine.run(name(1), [1] * 8)
    engine.run(name(2), [2] * 8)
    engine.sync()
    assert engine.points == {}
    engine.watch._max_tokens = 100
    engine.run(name(3), [1] * 4 + [3])
    engine.check()
    assert engine.points[name(3)] == ((1, 5),)


def test_a_full_queue_loses_everything_and_recovers(monkeypatch):
    monkeypatch.setattr("contextpilot_hooks.steps._MAX_STEPS", 8)
    engine = Engine(1, ("state",))
    engine.run(name(1), [1, 2, 3])
    engine.sync()
    for number in range(20):
        engine.insert([9, number])
    engine.sync()
    assert engine.points == {}
    engine.run(name(1), [1, 2, 3])
    engine.empty([0], "state")
    engine.check()


def test_a_prompt_shorter_than_a_page_is_not_followed():
    engine = Engine(4, ("window",))
    engine.admit(name(1), [1, 2, 3])
    assert [event.kind for event in engine.ledger.take()] == ["unfollowed"]


@given(st.integers(1, 300))
def test_no_more_ranges_are_told_than_a_message_takes(count):
    ledger = PathLedger(1)
    prompt = list(range(2 * count))
    ledger.hand_over(Admitted(name(1), prompt, None))
    points = tuple((2 * n, 2 * n) for n in range(1, count + 1))
    ledger.hand_over(Told(prompt, 2 * count, None, 2 * count, [(1, 2 * count)], points))
    (event,) = ledger.take()
    assert len(event.points) == min(count, 256)
    assert event.points[-1] == points[-1]
    assert set(event.points) <= set(points)

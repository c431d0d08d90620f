"""What the namespaces of a process hold together, and who goes first when it is too much."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import check_index

import contextpilot as cp
from contextpilot.block import Block
from contextpilot.budget import Budget, Held
from contextpilot.namespace import Namespaces
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import Head
from contextpilot.planning import Job, LocalPlanning

HEAD = Head(("system", "instruction"), 50)


def plan(namespaces: Namespaces, name: str, keys: Sequence[Any], head: Head = HEAD) -> str:
    """Plan and learn one request; return its name."""
    blocks = [Block(key, "text", 10, None) for key in keys]
    job = Job(name, [blocks], Bounds(), head, [5])
    (planned,) = LocalPlanning(namespaces).run(job)
    return planned.request_id


def blocks_in(*several: Namespaces) -> int:
    spaces = [space for namespaces in several for _, space in namespaces.items()]
    return sum(len(check_index(space.index)) for space in spaces)


def live(namespaces: Namespaces, name: str, keys: Sequence[Any]) -> int:
    space = namespaces.find(name)
    return space.index.match([*HEAD.keys, *keys]) if space is not None else 0


def test_engines_and_namespaces_share_one_bound() -> None:
    budget = Budget(100)
    engines = [Namespaces(1, 50, 10, budget) for _ in range(3)]
    for turn in range(60):
        for number, namespaces in enumerate(engines):
            plan(namespaces, f"tenant {turn % 4}", [f"{turn} {number}", f"then {turn} {number}"])
            assert blocks_in(*engines) <= 100
    held = budget.held
    assert 80 < held.blocks <= 100
    assert held.named <= 100
    assert held.recent <= 100
    for number, namespaces in enumerate(engines):
        keys = [f"59 {number}", f"then 59 {number}"]
        assert live(namespaces, "tenant 3", keys) == 4  # with the head that all share


def test_what_was_not_used_for_longest_goes_first_whoever_it_belongs_to() -> None:
    namespaces = Namespaces(40, 50, 10)
    plan(namespaces, "idle", ["a", "b", "c"])
    plan(namespaces, "steady", ["d", "e", "f"])
    for number in range(100):
        plan(namespaces, "busy", [number, number + 1000, number + 2000])
        if number % 5 == 0:
            plan(namespaces, "steady", ["d", "e", "f"])
    assert live(namespaces, "idle", ["a", "b", "c"]) == 0
    assert live(namespaces, "steady", ["d", "e", "f"]) == 5
    assert live(namespaces, "busy", [99]) == 3
    assert live(namespaces, "busy", [1]) == 2  # the head that newer requests share stays


def test_the_oldest_names_of_requests_go_first() -> None:
    namespaces = Namespaces(60, 50, 10)
    ids = [plan(namespaces, f"tenant {number % 2}", [number]) for number in range(40)]
    known = [number for number, name in enumerate(ids) if namespaces.owner(name) is not None]
    assert known == list(range(known[0], 40))
    assert len(namespaces._budget._owners) == len(known)
    assert 10 <= len(known) <= 60 // 4
    for number, name in enumerate(ids):
        space = namespaces.find(f"tenant {number % 2}")
        assert space is not None
        assert (name in space.index) == (number in known)
        assert space.explanations.get(name).reason == "unknown" or number in known


def test_windows_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    namespaces = Namespaces(90, 50, 10)
    for number in range(40):
        plan(namespaces, "first", [number, "shared"])
    for number in range(40):
        plan(namespaces, "second", [number, "shared"])
    first, second = namespaces.get("first").window, namespaces.get("second").window
    assert first.num_keys + second.num_keys <= 90
    assert (first.num_keys, second.num_keys) == (10, 80)
    assert 39 in first
    assert 1 not in first
    for number in range(60):
        plan(namespaces, "second", [number, *range(1000, 1040)])
    assert first.num_keys == len(first) == 0
    assert second.num_keys <= 90
    monkeypatch.setattr("contextpilot.budget._MAX_OWNERS", 5)
    ids = [plan(namespaces, "first", [number]) for number in range(9)]
    assert [namespaces.owner(name) is not None for name in ids] == [False] * 4 + [True] * 5


def test_notes_are_bounded_together() -> None:
    """Of what the index let go, and of the heads that it may not hold any more."""
    namespaces = Namespaces(60, 50, 10)
    for name in ("first", "second"):
        for number in range(80):
            head = Head((f"{name} {number}",), 50)
            plan(namespaces, name, [f"{name} {number}"], head)
            assert namespaces._budget.held.notes <= 60
    first, second = namespaces.get("first"), namespaces.get("second")
    assert first.num_notes == 0
    assert second.planner.num_heads == second.index.num_dropped == 30
    assert second.planner.recurs(Head(("second 79",), 50))
    assert not second.planner.recurs(Head(("second 10",), 50))
    second.index.empty()
    assert second.index.num_dropped > 30
    plan(namespaces, "second", ["another"])
    assert namespaces._budget.held.notes == 60


def test_invented_names_drive_out_nobody_in_use() -> None:
    now = [0.0]
    namespaces = Namespaces(100_000, 50, 100, clock=lambda: now[0])
    for _ in range(3):
        plan(namespaces, "in use", ["a", "b"])
    for number in range(1_001):
        now[0] += 0.1
        plan(namespaces, f"invented {number}", ["x", "y"])
        assert len(namespaces) <= 100
    assert live(namespaces, "in use", ["a", "b"]) == 4
    now[0] += 7 * 3600.0  # long not used: three uses count less than a new one by now
    for number in range(101):
        plan(namespaces, f"later {number}", ["x", "y"])
    assert namespaces.find("in use") is None


def test_a_namespace_in_use_elsewhere_is_passed_over_for_now() -> None:
    namespaces = Namespaces(30, 50, 10)
    for number in range(5):
        plan(namespaces, "old", [number])
    old = namespaces.get("old")
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with old.lock:
            taken.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(60)
    for number in range(40):
        plan(namespaces, "new", [number])
    assert live(namespaces, "old", [0]) == 3
    assert len(check_index(namespaces.get("new").index)) <= 30 - 7
    done.set()
    thread.join(60)
    for number in range(40, 80):
        plan(namespaces, "new", [number])
    assert live(namespaces, "old", [0]) == 0
    assert blocks_in(namespaces) <= 30


def test_what_a_dropped_namespace_held_counts_no_more() -> None:
    budget = Budget(1_000)
    namespaces = Namespaces(1, 50, 3, budget)
    for number in range(500):
        gone = namespaces.get("0") if number == 2 else None
        plan(namespaces, str(number), [1, 2, 3])
        if gone is not None:
            kept = gone
    assert len(budget._sizes) == 3
    assert len(budget._owners) == 3
    assert len(budget._queue) < 100
    namespaces.settle(kept)  # by a thread that still planned there
    assert len(budget._sizes) == 3
    namespaces.reset()
    assert budget.held == Held()


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 3), st.lists(st.integers(0, 9), max_size=5)),
        max_size=60,
    ),
    st.integers(1, 40),
)
@settings(max_examples=100, deadline=None)
def test_the_sums_are_those_of_the_namespaces(todo: list[Any], bound: int) -> None:
    budget = Budget(bound)
    engines = [Namespaces(1, 5, 2, budget) for _ in range(3)]
    for number, name, keys in todo:
        plan(engines[number], str(name), keys)
        spaces = [space for namespaces in engines for _, space in namespaces.items()]
        sizes = [
            (
                s.index.stats().num_blocks,
                s.index.num_named_blocks,
                s.window.num_keys,
                0,
                s.index.num_dropped + s.planner.num_heads,
            )
            for s in spaces
        ]
        assert budget.held == tuple(map(sum, zip(*sizes, strict=True)))
        assert budget.held.blocks == blocks_in(*engines) <= bound
        assert budget.held.named <= max(bound, len(keys) + 3)
        assert budget.held.recent <= bound
        assert budget.held.notes <= bound
        assert len(budget._owners) == sum(s.index.stats().num_requests for s in spaces)


def test_the_library_bounds_the_process_too() -> None:
    pilot = cp.ContextPilot(max_blocks=200)
    draw = random.Random(1)
    texts = [f"document {number}" for number in range(100)]
    for number in range(200):
        pilot.optimize(draw.sample(texts, 8), "why?", namespace=f"tenant {number % 30}")
    stats = pilot.stats().values()
    assert 100 < sum(one["num_blocks"] for one in stats) <= 200
    assert sum(one["requests"] for one in stats) == 200


def test_the_blocks_of_conversations_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contextpilot.budget._MIN_TALKS", 10)
    pilot = cp.ContextPilot(max_blocks=400)  # 100 blocks of conversations
    shared = ["the same first document"]
    for number in range(40):
        texts = [*shared, *(f"document {number} {step}" for step in range(5))]
        pilot.optimize(texts, "why?", namespace=f"t{number % 3}", conversation_id=str(number))
    assert pilot._namespaces._budget.held.talks <= 100
    newest = pilot.deduplicate(shared, conversation_id="39", namespace="t0")
    assert newest.overlapping_blocks == shared
    with pytest.raises(cp.UnknownConversationError):
        pilot.deduplicate(shared, conversation_id="0", namespace="t0")
    for number in range(50):  # without any plan, in one conversation
        texts = [f"more {number} {step}" for step in range(5)]
        pilot.deduplicate(texts, conversation_id="39", namespace="t0")
        assert pilot._namespaces._budget.held.talks <= 100
    again = pilot.deduplicate(["more 49 1", *shared], conversation_id="39", namespace="t0")
    assert (again.overlapping_blocks, again.new_blocks) == (["more 49 1"], shared)

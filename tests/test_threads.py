"""Many threads on one instance."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from oracles import check_index
from reading import check_prompt

import contextpilot as cp
from contextpilot.default import default_pilot, drop_default_pilot

TEXTS = [f"Document {n}: " + f"words {n} " * 40 for n in range(40)]
NUM_THREADS = 6


@pytest.fixture(autouse=True)
def _frequent_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def in_threads(work: Any) -> None:
    """Run work(number) in every thread at once; raise what any of them raised."""
    errors: list[BaseException] = []
    start = threading.Barrier(NUM_THREADS)

    def body(number: int) -> None:
        try:
            start.wait(timeout=60)
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=body, args=(n,)) for n in range(NUM_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
        assert not thread.is_alive(), "deadlock"
    if errors:
        raise errors[0]


def check_pilot(pilot: cp.ContextPilot) -> None:
    for name in pilot.stats():
        space = pilot._namespaces.get(name)
        check_index(space.planner.index)
        assert space.lock.acquire(timeout=5), "a lock was left behind"
        space.lock.release()
        window = space.planner.window
        assert set(window._masks) == {key for c in window._contexts for key in c}


def test_all_requests_are_planned_and_counted_once() -> None:
    pilot = cp.ContextPilot(max_blocks=60, window_size=50)
    ids: list[list[str]] = [[] for _ in range(NUM_THREADS)]

    def work(number: int) -> None:
        draw = random.Random(number)
        for step in range(60):
            context = draw.choices(TEXTS, k=6)
            messages = pilot.optimize(context, "q", conversation_id=str(number))
            check_prompt(messages, context, "q")
            assert pilot.explain(messages).request_id == messages.request_id
            ids[number].append(messages.request_id)
            if step % 10 == 0:
                pilot.deduplicate(context, conversation_id=str(number))
                pilot.stats()

    in_threads(work)
    assert len({i for own in ids for i in own}) == NUM_THREADS * 60
    assert pilot.stats()["default"]["requests"] == NUM_THREADS * 60
    assert pilot.stats()["default"]["num_blocks"] <= 60
    check_pilot(pilot)


def test_batches_resets_and_evictions_in_between() -> None:
    pilot = cp.ContextPilot(max_blocks=400)

    def work(number: int) -> None:
        draw = random.Random(number)
        for step in range(12):
            batch = [draw.choices(TEXTS, k=6) for _ in range(10)]
            if number % 3 == 0:
                prompts, order = pilot.optimize_batch(batch, ["q"] * 10)
                assert sorted(order) == list(range(10))
                for prompt, position in zip(prompts, order, strict=True):
                    check_prompt(prompt, batch[position], "q")
                continue
            for context in batch:
                name = pilot.optimize(context, "q").request_id
                owner = pilot._owner(name)
                if owner is not None and draw.random() < 0.3:
                    with owner.lock:
                        owner.tree.truncate(name, draw.randint(0, 300))
            if number == 1 and step % 4 == 3:
                pilot.reset()

    in_threads(work)
    check_pilot(pilot)


def test_threads_that_come_first_together_share_one_instance() -> None:
    seen: list[Any] = []
    for _ in range(20):
        drop_default_pilot()
        seen.clear()
        in_threads(lambda _: seen.append(default_pilot()))
        assert len({id(pilot) for pilot in seen}) == 1
    drop_default_pilot()

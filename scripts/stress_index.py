"""Let many threads and tasks plan on one index at once, and check it all the while.

    python scripts/stress_index.py --seconds 600
    PYTHON_GIL=0 python3.13t scripts/stress_index.py --seconds 60

64 threads and 1,000 tasks plan requests, batches and turns of conversations in a few namespaces,
engines report what they hold and what they dropped, namespaces are reset. Python switches between
threads as often as it can. Another thread checks every index: its tree is whole, its counts are
true, its bound holds. Each answer is checked to hold what was given. Fails at the first error.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from machine import machine_line, memory_mb

import contextpilot as cp

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from oracles import check_index

MAX_BLOCKS = 300
NAMESPACES = ("a", "b", "c")
TEXTS = [f"Document {n}: " + f"words {n} " * 30 for n in range(60)]
SWITCH_S = 1e-6
CHECK_EVERY_S = 0.2


class Stress:
    """One pilot, and all that happens to it."""

    def __init__(self, seconds: float) -> None:
        self.pilot = cp.ContextPilot(max_blocks=MAX_BLOCKS, window_size=100)
        self.awaited = cp.AsyncContextPilot(self.pilot)
        self.done: Counter[str] = Counter()
        self.errors: list[BaseException] = []
        self._ends_at = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._seq = 0

    @property
    def goes_on(self) -> bool:
        """Whether there is time left, and nothing failed."""
        return time.monotonic() < self._ends_at and not self.errors

    def count(self, what: str) -> None:
        """Count something done."""
        with self._lock:
            self.done[what] += 1

    # -- what is done ----------------------------------------------------------------------------

    def thread(self, number: int) -> None:
        """Do one thing after another."""
        rng = random.Random(number)
        acts = [self._optimize] * 6 + [self._batch, self._turn, self._report, self._explain]
        try:
            while self.goes_on:
                act = rng.choice(acts) if rng.random() > 0.001 else self._reset
                act(rng, number)
                self.count(act.__name__.strip("_"))
        except BaseException as error:
            self.errors.append(error)

    async def task(self, number: int) -> None:
        """Plan one request after another; some are cancelled."""
        rng = random.Random(number)
        while self.goes_on:
            given = _draw(rng)
            call = self.awaited.optimize(given, "q", namespace=rng.choice(NAMESPACES))
            try:
                messages = await asyncio.wait_for(call, 0.001 if rng.random() < 0.1 else None)
            except asyncio.TimeoutError:
                self.count("cancelled")
            else:
                _check(messages, given)
                self.count("awaited")
            await asyncio.sleep(rng.random() * 0.1)

    def check(self) -> None:
        """Check every index, again and again."""
        try:
            while self.goes_on:
                self.check_once()
                self.count("checks")
                time.sleep(CHECK_EVERY_S)
        except BaseException as error:
            self.errors.append(error)

    def check_once(self) -> None:
        """Check every index; raises AssertionError."""
        for _, space in self.pilot._namespaces.items():  # noqa: PERF102 - it is no dictionary
            assert space.lock.acquire(timeout=60), "a lock was left behind"
            try:
                check_index(space.planner.index)
                window = space.planner.window
                assert set(window._masks) == {key for one in window._contexts for key in one}
            finally:
                space.lock.release()

    # -- acts ------------------------------------------------------------------------------------

    def _optimize(self, rng: random.Random, _: int) -> None:
        given = _draw(rng)
        _check(self.pilot.optimize(given, "q", namespace=rng.choice(NAMESPACES)), given)

    def _batch(self, rng: random.Random, _: int) -> None:
        batch = [_draw(rng) for _ in range(4)]
        made, order = self.pilot.optimize_batch(batch, ["q"] * 4, namespace=rng.choice(NAMESPACES))
        assert sorted(order) == list(range(4))
        for messages, position in zip(made, order, strict=True):
            _check(messages, batch[position])

    def _turn(self, rng: random.Random, number: int) -> None:
        name = rng.choice(NAMESPACES)
        talk = f"{name} {number}"
        self.pilot.optimize(_draw(rng), "q", namespace=name, conversation_id=talk)

    def _explain(self, rng: random.Random, _: int) -> None:
        messages = self.pilot.optimize(_draw(rng), "q", namespace=rng.choice(NAMESPACES))
        told = self.pilot.explain(messages)
        assert told.request_id == messages.request_id
        assert 0 <= told.matched_tokens <= told.total_tokens
        if rng.random() < 0.5:
            self.pilot.unsent(messages.request_id)

    def _report(self, rng: random.Random, _: int) -> None:
        messages = self.pilot.optimize(_draw(rng), "q", namespace=rng.choice(NAMESPACES))
        kind = rng.choice(("cached", "truncated", "unfollowed"))
        event = {"event": kind, "request": messages.request_id, "tokens": rng.randrange(400)}
        with self._lock:
            self._seq += 1 + (rng.random() < 0.05)  # some are missing
            seq = self._seq
        message = {"version": 2, "engine": "e", "epoch": "1", "seq": seq, "events": [event]}
        self.pilot._receiver.take(message)

    def _reset(self, rng: random.Random, _: int) -> None:
        self.pilot.reset(rng.choice(NAMESPACES))


def _draw(rng: random.Random) -> list[str]:
    return rng.sample(TEXTS[: rng.choice((10, 60))], rng.randint(1, 6))


def _check(messages: Any, given: list[str]) -> None:
    text = messages[-1]["content"]
    assert sorted(messages.order) == list(range(len(given)))
    assert all(one in text for one in given), "a document is lost"


def stress(seconds: float, num_threads: int, num_tasks: int) -> Stress:
    """Run it, and return what was done; raises the first error."""
    run = Stress(seconds)
    threads = [threading.Thread(target=run.thread, args=(n,)) for n in range(num_threads)]
    threads.append(threading.Thread(target=run.check))
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        for thread in threads:
            thread.start()

        async def tasks() -> None:
            await asyncio.gather(*(run.task(number) for number in range(num_tasks)))

        asyncio.run(tasks())
        for thread in threads:
            thread.join(120)
            assert not thread.is_alive(), "a deadlock"
    finally:
        sys.setswitchinterval(before)
    if run.errors:
        raise run.errors[0]
    run.check_once()
    held = sum(space["num_blocks"] for space in run.pilot.stats().values())
    assert held <= MAX_BLOCKS, f"{held} blocks are held"
    return run


def main() -> int:
    """Run it, and print what was done."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--tasks", type=int, default=1000)
    arguments = parser.parse_args()
    has_lock = getattr(sys, "_is_gil_enabled", lambda: True)()
    print(f"{machine_line('numpy', 'scipy')} · {'with' if has_lock else 'without'} the GIL")
    began = time.monotonic()
    run = stress(arguments.seconds, arguments.threads, arguments.tasks)
    for what, count in sorted(run.done.items()):
        print(f"  {what:<10} {count:,}")
    print(f"errors: {len(run.errors)}; {time.monotonic() - began:.0f} s; {memory_mb():.0f} MB")
    return 0


if __name__ == "__main__":
    import plainly

    plainly.run(main)

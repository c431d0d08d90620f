"""What the hooks cost vLLM's scheduler thread; run by scripts/bench_hooks.py in vLLM's environment.

    python vllm_cost.py FILES VERSION URL [--meter] [--layers LAYERS]

URL "" measures without hooks; LAYERS are those of vllm_engine.LAYERS, full attention by default.

Prints one line of JSON. `step_us` and `evict_us` are our own share: the time of the wrapped call
less the time of the original inside it, each measured with the same clock. Without hooks they are
what this measuring itself takes, which is part of the others.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "hooks")]

from vllm_files import serve  # noqa: E402

BLOCKS = 4000
STEPS = 3000
FULL = "cache_full_blocks", "_maybe_evict_cached_block"
HYBRID = "cache_full_blocks", "_remove_cached_block_hashes"
"""What tells of blocks that come into the cache, and leave it."""
clock = time.perf_counter_ns


class Meter:
    """Time spent in each original, to be taken off the time of the wrapped call."""

    def __init__(self) -> None:
        self.inside: dict[str, int] = {}

    def inner(self, owner: Any, name: str) -> None:
        """Time the original; to be called before the hooks attach."""
        original, inside = getattr(owner, name), self.inside
        inside[name] = 0

        @functools.wraps(original)
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = clock()
            result = original(*args, **kwargs)
            inside[name] += clock() - started
            return result

        setattr(owner, name, timed)

    def outer(self, instance: Any, name: str, note: Callable[[int], None]) -> None:
        """Time the wrapped call, less the original inside it; after the hooks attached."""
        wrapped, inside = getattr(instance, name), self.inside

        def timed(*args: Any, **kwargs: Any) -> Any:
            before, started = inside[name], clock()
            result = wrapped(*args, **kwargs)
            note(clock() - started - (inside[name] - before))
            return result

        setattr(instance, name, timed)


class Costs:
    """Our own nanoseconds: per evicted block, and per step for all the other wrappers."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.evictions: list[int] = []
        self._step = 0

    def add(self, nanoseconds: int) -> None:
        self._step += nanoseconds

    def evict(self, nanoseconds: int) -> None:
        self.evictions.append(nanoseconds)

    def end_step(self) -> None:
        self.steps.append(self._step)
        self._step = 0


def prompts(seed: int = 3) -> Any:
    """Requests of 200 to 3,000 tokens, half of them with a shared prefix, all with our id."""
    source = random.Random(seed)
    shared = [[source.randrange(30_000) for _ in range(1000)] for _ in range(8)]
    while True:
        prefix = source.choice(shared) if source.random() < 0.5 else []
        own = [source.randrange(30_000) for _ in range(source.randint(200, 2000))]
        yield f"chatcmpl-cp-{source.getrandbits(96):024x}-0badcafe", prefix + own


def load(engine: Any, end_step: Callable[[], None], steps: int = STEPS) -> tuple[float, float]:
    """Keep up to 16 requests running; returns the seconds of the steps alone, wall and CPU."""
    source, spent, busy = prompts(), 0, 0
    for _ in range(steps):
        while len(engine.scheduler.requests) < 16:
            name, tokens = next(source)
            engine.add(name, tokens, 24)
        started, ran = clock(), time.thread_time_ns()
        engine.step()
        spent, busy = spent + clock() - started, busy + time.thread_time_ns() - ran
        end_step()
    return spent / 1e9, busy / 1e9


def metered(timed: bool, layers: str) -> tuple[Any, Costs]:
    """An engine whose calls are timed where hooks wrap them, or a plain one."""
    from vllm_engine import VllmEngine

    meter, costs = Meter(), Costs()
    if timed:
        from vllm.v1.core.block_pool import BlockPool
        from vllm.v1.core.sched.scheduler import Scheduler

        into, out = FULL if layers == "full" else HYBRID
        names = (
            *((Scheduler, name) for name in ("add_request", "schedule", "update_from_output")),
            *((BlockPool, name) for name in (into, out)),
        )
        for owner, name in names:
            meter.inner(owner, name)
    engine = VllmEngine(BLOCKS, layers=layers, retention=None if layers == "full" else 0)
    if timed:
        for owner, name in names:
            instance = engine.scheduler if owner is Scheduler else engine.pool
            meter.outer(instance, name, costs.evict if name == out else costs.add)
    return engine, costs


def microseconds(values: list[int]) -> dict[str, float]:
    """Median, 90th and 99th percentile."""
    if len(values) < 2:
        return {}
    cuts = statistics.quantiles(values, n=100)
    return {"median": cuts[49] / 1e3, "p90": cuts[89] / 1e3, "p99": cuts[98] / 1e3}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", type=Path)
    parser.add_argument("version")
    parser.add_argument("url")
    parser.add_argument("--meter", action="store_true")
    parser.add_argument("--layers", default="full")
    arguments = parser.parse_args()
    files, version, url, meter, layers = vars(arguments).values()
    serve(files, version)
    if url:
        os.environ["CONTEXTPILOT_INDEX_URL"] = url
        __import__("contextpilot_hooks.start", fromlist=["start"]).start()
    engine, costs = metered(meter, layers)
    load(engine, lambda: None, 200)
    costs.evictions.clear()
    costs.end_step()
    costs.steps.clear()
    others = time.process_time() - time.thread_time()
    seconds, busy = load(engine, costs.end_step)
    others = time.process_time() - time.thread_time() - others
    result = {
        "wall_us": seconds / STEPS * 1e6,
        "cpu_us": busy / STEPS * 1e6,
        "reporter_cpu_us": others / STEPS * 1e6,
        "evicted": len(costs.evictions),
        "step_us": microseconds(costs.steps),
        "evict_us": microseconds(costs.evictions),
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    import plainly

    plainly.run(main)

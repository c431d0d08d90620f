"""Print the planning figures: hit ratios on workloads, planning time, latency of `optimize`.

    python scripts/bench_plan.py [--workloads DIR] [--sketches DIR] [--only SECTION ...] [--quick]
        [--starts N] [--full-gain]

Sections: hits (workload files NAME.json.gz with docs and requests), gap (against the optimum of
small instances), batch (planning time and its growth), online (time per `optimize` call by live
contexts), start (import and creation). With `--sketches` (a folder with batch.py, online.py,
online_weighted.py, online_candidates.py, synced.py, simulate.py, window.py) the plain sketches run
beside ours. Times are CPU seconds of this thread, so other load disturbs them less.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine_line
from synthetic import synthetic
from workloads import workload_files

import contextpilot as cp
from contextpilot.block import UNKNOWN_TOKENS, Block, estimate_tokens
from contextpilot.index import ContextIndex
from contextpilot.plan.batch import BatchPlanner
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import OnlinePlanner
from contextpilot.plan.replay import MODES, Mode, hit_bound, replay_each
from contextpilot.plan.support import SupportWindow
from contextpilot.plan.tree import agglomerate

SECTIONS = ("hits", "gap", "batch", "online", "start")


# -- hits --------------------------------------------------------------------------------------


def read_workload(path: Path) -> list[list[Block]]:
    """Return the contexts of a workload file; blocks are numbered by document."""
    with gzip.open(path) as file:
        workload = json.load(file)
    blocks = [Block(i, "", estimate_tokens(text), i) for i, text in enumerate(workload["docs"])]
    return [[blocks[i] for i in request["contexts"]] for request in workload["requests"]]


def print_hits(folder: Path, sketches: Path | None, starts: int, bounds: Bounds) -> None:
    """Hit ratios in percent, unlimited / 5 % / 1 % cache, by mode; sketches on the next line."""
    print("hit ratio in percent of block tokens: cache unlimited / 5 % / 1 % of the workload")
    if starts > 1:
        print(f"mean of {starts} replays, which begin at so many places and go round")
    for path in workload_files(folder):
        contexts = read_workload(path)
        replays = [contexts[at:] + contexts[:at] for at in begins(len(contexts), starts)]
        keys = [dict.fromkeys(block.key for block in context) for context in contexts]
        weights = {block.key: block.weight for context in contexts for block in context}
        total = sum(weights[key] for context in keys for key in context)
        capacities = [None, total // 20, total // 100]
        cells = [f"{mode} {means(hits(mode, replays, capacities, bounds))}" for mode in MODES]
        print(
            f"{path.name.partition('.')[0]:15s} {len(contexts):5d} requests; "
            + "; ".join(cells)
            + f"; bound {100 * hit_bound(contexts).hit_ratio:.1f}",
            flush=True,
        )
        if sketches is not None:
            cells = [
                f"{name} {means([ratios[name] for ratios in found])}"
                for found in [[of_sketches(contexts, capacities) for contexts in replays]]
                for name in found[0]
            ]
            print(f"{'':15s}        sketches; " + "; ".join(cells), flush=True)


def begins(length: int, count: int) -> list[int]:
    """Return so many places, evenly apart, the first one included."""
    return [number * length // count for number in range(count)]


def means(rows: Sequence[Sequence[float]]) -> str:
    """Return the mean of each column."""
    return " / ".join(f"{statistics.mean(column):.1f}" for column in zip(*rows, strict=True))


def hits(
    mode: Mode, replays: list[list[list[Block]]], capacities: list[int | None], bounds: Bounds
) -> list[list[float]]:
    """Return the hit ratios of each replay in percent, one for each capacity."""
    return [
        [
            100 * totals.hit_ratio
            for totals in replay_each(contexts, mode, capacities, bounds=bounds)
        ]
        for contexts in replays
    ]


def of_sketches(
    contexts: Sequence[Sequence[Block]], capacities: list[int | None]
) -> dict[str, list[float]]:
    """The same of the sketches, by name."""
    batch, online, simulate, synced = (
        importlib.import_module(name) for name in ("batch", "online", "simulate", "synced")
    )
    weighted, candidates = (
        importlib.import_module(name) for name in ("online_weighted", "online_candidates")
    )
    weights = {block.key: block.weight for context in contexts for block in context}
    keys = [list(dict.fromkeys(block.key for block in context)) for context in contexts]
    listed = [weights.get(key, 0) for key in range(1 + max(weights))]  # keys are documents' numbers

    def ratios(order: Any) -> list[float]:
        found = [simulate.run(order, weights, capacity) for capacity in capacities]
        return [100 * hit / tokens for hit, tokens in found]

    powers = {
        f"weighted, power {power}": ratios(weighted.online(keys, listed, power, 64)[0])
        for power in (2, 4, 8)
    }
    return {
        "plain": ratios(keys),
        "online": ratios(online.online(keys, weights, "lsup")[0]),
        **powers,
        "candidates": ratios(candidates.online(keys, listed)[0]),
        "synced": [float(synced.online(keys, weights, capacity)) for capacity in capacities],
        "batch": ratios(batch.agglomerate(keys, weights)[0]),
    }


# -- gap ---------------------------------------------------------------------------------------


def print_gap() -> None:
    """Tokens saved by the planner over the most that any tree saves, on instances it can try."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from oracles import optimal_saving

    print("batch plans against the optimum (all trees tried): contexts / blocks / per context")
    rng = np.random.default_rng(3)
    for size, pool, per_context in ((4, 6, 4), (6, 9, 4), (8, 12, 6)):
        ratios = []
        for _ in range(100):
            sets = [np.sort(rng.choice(pool, per_context, replace=False)) for _ in range(size)]
            weights = rng.integers(20, 400, pool)
            tree = agglomerate(sets, weights, Bounds(min_gain_tokens=1, displacement_cost=0))
            saved = sum(
                (len(children) - 1) * int(weights[tree.shared[node]].sum())
                for node, children in tree.children.items()
            )
            best = optimal_saving(
                [frozenset(numbers.tolist()) for numbers in sets],
                dict(enumerate(weights.tolist())),
            )
            ratios.append(saved / best if best else 1.0)
        optimal = sum(ratio > 1 - 1e-9 for ratio in ratios)
        print(
            f"  {size} / {pool} / {per_context}: optimal in {optimal} of 100, "
            f"mean {np.mean(ratios):.3f}, worst {min(ratios):.3f}",
            flush=True,
        )


# -- batch -------------------------------------------------------------------------------------


def plan_batch(contexts: list[list[int]]) -> tuple[float, float, float]:
    """Return CPU seconds, elapsed seconds and the hit ratio of planning a batch."""
    pool = [Block(i, "", UNKNOWN_TOKENS, i) for i in range(1 + max(map(max, contexts)))]
    blocks = [[pool[i] for i in context] for context in contexts]
    planner = OnlinePlanner(ContextIndex(), SupportWindow())
    batch, bounds = BatchPlanner(planner), Bounds()
    cpu, wall = time.process_time(), time.perf_counter()
    groups = batch.prepare(blocks, bounds)
    plans = list(batch.walk(blocks, groups, bounds))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    weights = {block.key: block.weight for block in pool}
    from contextpilot.plan.simulate import simulate

    orders = ([contexts[at][rank] for rank in plan.order] for at, plan in plans)
    return cpu, wall, simulate(orders, weights).hit_ratio


def print_batch(sketches: Path | None, quick: bool) -> None:
    """Planning time of batches, memory, and the exponent of its growth."""
    print(
        "batch planning: contexts (blocks of pool, Zipf): CPU s, elapsed s, hit ratio, peak memory"
    )
    cases = [(2_000, 15, 5_000, 0.8), (12_000, 20, 1_000, 0.0)]
    growth = [(n, 15, 20_000, 0.8) for n in (1_000, 3_000, 10_000, 30_000, 100_000)]
    times = {}
    for case in cases + (growth[:3] if quick else growth):
        contexts = synthetic(*case, seed=7)
        cpu, wall, ratio = plan_batch(contexts)
        if case in growth:
            times[case[0]] = cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"  {case[0]:7,} ({case[1]} of {case[2]:,}, {case[3]}): {cpu:.2f}, {wall:.2f}, "
            f"{100 * ratio:.2f} %, {peak:.2f} GB",
            flush=True,
        )
        if sketches is not None and case[0] == 2_000:
            sketch = importlib.import_module("batch")
            start = time.process_time()
            sketch.agglomerate(contexts, dict.fromkeys(range(case[2]), UNKNOWN_TOKENS))
            took = time.process_time() - start
            print(f"          sketch {took:.2f} s: ours takes 1/{took / cpu:.0f} of it", flush=True)
    low, high = min(times), max(times)
    exponent = math.log(times[high] / times[low]) / math.log(high / low)
    print(f"  growth from {low:,} to {high:,} contexts: time ~ n^{exponent:.2f}")


# -- online ------------------------------------------------------------------------------------


def print_online(quick: bool) -> None:
    """CPU time of one `optimize` call, by blocks per context and live contexts."""
    print("optimize, blocks of 300 tokens, 20,000 documents, Zipf 0.8: CPU us per call")
    pool = 20_000
    documents = [(f"Document {i}. " + "some words of a passage " * 60)[:1200] for i in range(pool)]
    for blocks in (20, 100):
        pilot = cp.ContextPilot()
        done = 0
        for live in (1_000, 10_000) if quick else (1_000, 10_000, 100_000):
            if blocks == 100 and live > 10_000:
                continue
            contexts = synthetic(live + 500 - done, blocks, pool, 0.8, seed=live)
            calls = [
                timed(partial(pilot.optimize, [documents[i] for i in context], "Which one?"))
                for context in contexts
            ]
            done = live + 500
            last = sorted(calls[-500:])
            print(
                f"  {blocks:3d} blocks, {live:7,} live contexts: median {last[250] * 1e6:.0f}, "
                f"p99 {last[495] * 1e6:.0f}",
                flush=True,
            )


def timed(call: Callable[[], object]) -> float:
    """Return the CPU seconds of this thread that a call takes."""
    start = time.thread_time()
    call()
    return time.thread_time() - start


# -- start -------------------------------------------------------------------------------------

_PROBE = """
import time
start = time.perf_counter()
import contextpilot
imported = time.perf_counter()
contextpilot.ContextPilot()
print((imported - start) * 1e3, (time.perf_counter() - imported) * 1e3)
"""


def print_start() -> None:
    """Import and creation in fresh interpreters, best and median of 15."""
    runs = [
        [
            float(x)
            for x in subprocess.run(
                [sys.executable, "-c", _PROBE], check=True, text=True, capture_output=True
            ).stdout.split()
        ]
        for _ in range(15)
    ]
    for name, values in zip(
        ("import contextpilot", "ContextPilot()"), zip(*runs, strict=True), strict=True
    ):
        print(f"{name}: best {min(values):.1f} ms, median {statistics.median(values):.1f} ms")


def main() -> None:
    """Print the sections asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workloads", type=Path, help="folder of NAME.json.gz")
    parser.add_argument("--sketches", type=Path, help="folder of the plain sketches")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument(
        "--starts", type=int, default=1, help="replays of hits, each begun elsewhere"
    )
    parser.add_argument("--full-gain", action="store_true", help="hits where moves cost nothing")
    parser.add_argument("--quick", action="store_true", help="leave out the largest sizes")
    arguments = parser.parse_args()
    if arguments.sketches is not None:
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(arguments.sketches))
    print(machine_line("numpy", "scipy"))
    if "hits" in arguments.only and arguments.workloads is not None:
        bounds = Bounds(displacement_cost=0) if arguments.full_gain else Bounds()
        print_hits(arguments.workloads, arguments.sketches, arguments.starts, bounds)
    if "gap" in arguments.only:
        print_gap()
    if "batch" in arguments.only:
        print_batch(arguments.sketches, arguments.quick)
    if "online" in arguments.only:
        print_online(arguments.quick)
    if "start" in arguments.only:
        print_start()


if __name__ == "__main__":
    import plainly

    plainly.run(main)

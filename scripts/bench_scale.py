"""Print and draw time and memory of planning a batch, against how many contexts it has.

    python scripts/bench_scale.py [--sizes 3000 10000 ...] [--shape 20 1000 0]
                                  [--out scaling.png] [--add FILE.jsonl]

Contexts of `--shape` (blocks of each, of how many, Zipf's exponent; 256 tokens a block) come from
an iterator through `contextpilot.plan_stream`; each size in a process of its own, so that memory is
its own, too. CPU seconds are those of the process, which other load disturbs less than the clock;
making the contexts is left out of both. The hit ratio is that of an unlimited cache, and of one of
1 % of the batch. With `--add` each result is written to a file, and what stands there is not run
again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from machine import machine_line
from synthetic import streamed

SHAPE, SEED = ("15", "200000", "0.8"), 7
SIZES = (3_000, 10_000, 30_000, 100_000)
ASKED = {100_000: 15.0, 1_000_000: 300.0}


class Run(NamedTuple):
    """One batch: seconds of processor and by the clock, gigabytes, hit ratios in percent."""

    contexts: int
    cpu: float
    elapsed: float
    memory: float
    hits: float
    hits_small: float
    load: float


class Timed:
    """Contexts from an iterator, and the time that making them takes."""

    def __init__(self, count: int, blocks: int, pool: int, zipf: float) -> None:
        self.contexts: list[list[int]] = []
        self.cpu = self.elapsed = 0.0
        self._source = streamed(count, blocks, pool, zipf, SEED)

    def __iter__(self) -> Iterator[list[int]]:
        while True:
            cpu, elapsed = time.process_time(), time.perf_counter()
            context = next(self._source, None)
            if context is not None:
                self.contexts.append(context)
            self.cpu += time.process_time() - cpu
            self.elapsed += time.perf_counter() - elapsed
            if context is None:
                return
            yield context


def measure(count: int, shape: Sequence[str]) -> Run:
    """Plan a batch of this size in this process."""

    from contextpilot import plan_stream
    from contextpilot.block import UNKNOWN_TOKENS
    from contextpilot.plan.simulate import simulate

    blocks, pool = int(shape[0]), int(shape[1])
    source = Timed(count, blocks, pool, float(shape[2]))
    cpu, elapsed = time.process_time(), time.perf_counter()
    steps = list(plan_stream(source))
    cpu = time.process_time() - cpu - source.cpu
    elapsed = time.perf_counter() - elapsed - source.elapsed
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    weights = dict.fromkeys(range(pool), UNKNOWN_TOKENS)
    ratios = []
    for capacity in (None, count * blocks * UNKNOWN_TOKENS // 100):
        orders = ([source.contexts[at][rank] for rank in order] for at, order in steps)
        ratios.append(100 * simulate(orders, weights, capacity).hit_ratio)
    return Run(count, cpu, elapsed, memory, *ratios, os.getloadavg()[0])


def in_a_process(count: int, shape: Sequence[str]) -> Run:
    """The same in a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, "--measure", str(count), "--shape", *shape],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return Run(*json.loads(done.stdout))


def exponent(low: Run, high: Run, value: str) -> float:
    """Return with which power of the number of contexts something grows."""
    times = getattr(high, value) / getattr(low, value)
    return math.log(times) / math.log(high.contexts / low.contexts)


def draw(runs: Sequence[Run], path: Path) -> None:
    """Draw time and memory against the number of contexts, on logarithmic scales."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    sizes = [run.contexts for run in runs]
    titles = {"cpu": "processor time, s", "memory": "peak memory, GB"}
    for panel, (value, title) in zip(panels, titles.items(), strict=True):
        values = [getattr(run, value) for run in runs]
        panel.loglog(sizes, values, "o-", label="measured")
        power = exponent(runs[0], runs[-1], value)
        panel.set_title(f"{title}: grows as n^{power:.2f}", fontsize=10)
        panel.set_xlabel("contexts")
        panel.grid(True, which="both", alpha=0.2)
    panels[0].plot([*ASKED], [*ASKED.values()], "kv", label="at most, on two quiet cores")
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def stored(path: Path | None) -> dict[int, Run]:
    """Return the results of a file."""
    if path is None or not path.exists():
        return {}
    runs = [Run(*json.loads(line)) for line in path.read_text().splitlines()]
    return {run.contexts: run for run in runs}


def main() -> None:
    """Print a line for each size, then the exponents."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--shape", nargs=3, default=SHAPE, metavar=("BLOCKS", "OF", "ZIPF"))
    parser.add_argument("--out", type=Path, help="draw into this file")
    parser.add_argument("--add", type=Path, help="JSON Lines of results")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    arguments: Any = parser.parse_args()
    if arguments.measure is not None:
        print(json.dumps(measure(arguments.measure, arguments.shape)))
        return
    print(machine_line("numpy", "scipy"))
    print("{} of {} blocks, Zipf {}".format(*arguments.shape))
    print("contexts: CPU s, elapsed s, peak memory; hit ratio unlimited / in 1 %; load average")
    known, runs = stored(arguments.add), []
    for size in arguments.sizes:
        run = known.get(size) or in_a_process(size, arguments.shape)
        if arguments.add is not None and size not in known:
            with arguments.add.open("a") as file:
                file.write(json.dumps(run) + "\n")
        runs.append(run)
        print(
            f"{run.contexts:9,}: {run.cpu:.1f}, {run.elapsed:.1f}, {run.memory:.2f} GB; "
            f"{run.hits:.2f} / {run.hits_small:.2f} %; {run.load:.0f}",
            flush=True,
        )
    if len(runs) > 1:
        for value in ("cpu", "memory"):
            print(f"{value} ~ n^{exponent(runs[0], runs[-1], value):.2f}")
    if arguments.out is not None:
        draw(runs, arguments.out)


if __name__ == "__main__":
    import plainly

    plainly.run(main)

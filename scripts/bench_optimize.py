"""How long one `optimize` call takes, beside another checkout of this project, in one run.

    python scripts/bench_optimize.py [--base OTHER_CHECKOUT] [--live 1000 10000 100000]

Both plan the same contexts, in turn some of each, so that what else the machine does meanwhile
slows both alike. Times are CPU microseconds of the planning thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from machine import machine_line
from synthetic import synthetic

POOL, CHARS, ZIPF = 20_000, 1200, 0.8
CALLS, ROUNDS = 50, 12


def work(tree: str, live: int, blocks: int) -> None:
    """Plan `live` contexts; then, for each line of input, time some more and print the times."""
    sys.path.insert(0, tree)
    import contextpilot

    passage = "some words of a passage " * (CHARS // 20)
    documents = [f"Document {number}. {passage}"[:CHARS] for number in range(POOL)]
    bound = max(2_000_000, (live + CALLS * ROUNDS) * blocks)  # so that all of them stay live
    pilot = contextpilot.ContextPilot(index_url="", max_blocks=bound)
    queue = iter(synthetic(live + CALLS * ROUNDS, blocks, POOL, ZIPF, seed=7))

    def call() -> float:
        chosen = [documents[number] for number in next(queue)]
        start = time.thread_time()
        pilot.optimize(chosen, "Which one?")
        return time.thread_time() - start

    for _ in range(live):
        call()
    print(contextpilot.__file__, flush=True)
    for _ in sys.stdin:
        print(json.dumps([call() for _ in range(CALLS)]), flush=True)


def measure(trees: dict[str, str], live: int, blocks: int) -> dict[str, list[float]]:
    """Return the times of calls of each checkout, in ascending order."""
    workers = {}
    for name, tree in trees.items():
        command = [sys.executable, __file__, "--work", tree, str(live), str(blocks)]
        workers[name] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert workers[name].stdout.readline().startswith(tree), f"{tree} is not what is imported"
    times: dict[str, list[float]] = {name: [] for name in trees}
    for _ in range(ROUNDS):
        for name, worker in workers.items():
            worker.stdin.write("\n")
            worker.stdin.flush()
            times[name] += json.loads(worker.stdout.readline())
    for worker in workers.values():
        worker.communicate()
    return {name: sorted(values) for name, values in times.items()}


def main() -> None:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", help="another checkout")
    parser.add_argument("--live", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--blocks", type=int, nargs="+", default=[20, 100])
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        tree, live, blocks = arguments.work
        work(tree, int(live), int(blocks))
        return
    print(machine_line("numpy"))
    trees = {"before": arguments.base} if arguments.base else {}
    trees |= {"now": str(Path(__file__).resolve().parents[1])}
    for blocks in arguments.blocks:
        for live in arguments.live:
            times = measure(trees, live, blocks)
            told = ", ".join(
                f"{name} {statistics.median(values) * 1e6:.0f} "
                f"({values[len(values) * 99 // 100] * 1e6:.0f})"
                for name, values in times.items()
            )
            print(f"{blocks} blocks, {live:,} live contexts: median (p99) {told} us", flush=True)


if __name__ == "__main__":
    import plainly

    plainly.run(main)

"""Print how often belief is above the truth: python scripts/check_belief.py [--runs N] [--steps N]

Random runs of engines' caches, ledgers, reporters, a wire that loses, repeats and reorders,
receiver and index (tests/belief.py), with restarts, resets, snapshots, low bounds and several
engines. Every 50 steps all that is under way ends and is delivered; then every request is checked:
no more is believed than an engine holds, and no less than an engine that follows it told.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT / "tests"), str(CHECKOUT / "hooks")]

from belief import Features, World, variants  # noqa: E402
from machine import machine_line  # noqa: E402


def runs_of(features: Features, seeds: range, steps: int) -> tuple[Counter[str], list[str]]:
    """What happened in all runs of one kind, and what was wrong in them."""
    counts: Counter[str] = Counter()
    wrong = []
    for seed in seeds:
        world = World(seed, features)
        found = world.run(steps)
        counts.update(world.counts)
        counts["above"] += any("above" in text for text in found)
        counts["below"] += any("below" in text for text in found)
        wrong += [f"seed {seed}: {text}" for text in found[:1]]
    return counts, wrong


def main() -> int:
    """Print the table; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=2100, help="of all kinds together")
    parser.add_argument("--steps", type=int, default=200, help="of each run")
    parser.add_argument("--seed", type=int, default=0, help="the first")
    parser.add_argument("--only", default="", help="kinds whose name has this in it")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    print(machine_line())
    kinds = [(name, kind) for name, kind in variants() if arguments.only in name]
    each = -(-arguments.runs // len(kinds))
    print(f"{len(kinds)} kinds, {each} runs of {arguments.steps} steps each")
    print("| ledger, receiver | runs | checked | events | snapshots | above | below |")
    print("|---|---|---|---|---|---|---|")
    started, total, failed = time.monotonic(), Counter[str](), []
    sums: dict[str, Counter[str]] = {}
    for name, features in kinds:
        seeds = range(arguments.seed, arguments.seed + each)
        counts, wrong = runs_of(features, seeds, arguments.steps)
        events = sum(counts[kind] for kind in ("cached", "truncated", "unfollowed", "cleared"))
        print(
            f"| {name} | {each} | {counts['checks']:,} | {events:,} | {counts['snapshots']:,} |"
            f" {counts['above']} | {counts['below']} |",
            flush=True,
        )
        total += counts
        of_ledger = sums.setdefault(name.split(",")[0], Counter())
        of_ledger.update(counts, runs=each, events=events)
        failed += [f"{name}: {text}" for text in wrong]
    for name, of_ledger in sums.items():
        told = [f"{of_ledger[what]:,}" for what in ("runs", "checks", "events", "snapshots")]
        print(
            f"| all of {name} | {' | '.join(told)} | {of_ledger['above']} | {of_ledger['below']} |"
        )
    print(f"all: {total['checks']:,} checks, {total['above']} runs above, {total['below']} below, "
          f"{time.monotonic() - started:.0f} s")  # fmt: skip
    for text in failed[:10]:
        print(text)
    return 1 if failed else 0


if __name__ == "__main__":
    import plainly

    plainly.run(main)

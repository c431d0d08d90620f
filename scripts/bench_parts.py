"""Print what a batch loses when it is sent in parts, each to a cache of its own.

    python scripts/bench_parts.py WORKLOAD [--limit N]

Hit ratios in caches of whole blocks without bounds, one for each part; no engine, no Ray. First
contiguous runs of one plan, as `contextpilot.integrations.ray` cuts it; then batches that one plan
may not hold, clustered by a planned sample, and for comparison cut as they came and at random.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

from machine import machine_line

from contextpilot import ContextPilot
from contextpilot.block import Block
from contextpilot.commands.workload import read_workload
from contextpilot.plan.parts import clusters, runs_of
from contextpilot.plan.simulate import simulate

PARTS = (2, 4, 8)
SLACK = 0.1


class Planned(NamedTuple):
    """A batch in execution order, that order, and what each shares with those before it."""

    contexts: list[list[Block]]
    order: list[int]
    shared: list[int]


def planned(contexts: Sequence[Sequence[Block]]) -> Planned:
    """Plan a batch."""
    values = [[block.text for block in context] for context in contexts]
    pilot = ContextPilot(index_url="")
    found, order = pilot.reorder(values)
    pairs = zip(found, order, strict=True)
    ordered = [[contexts[at][rank] for rank in one.order] for one, at in pairs]
    return Planned(ordered, order, [pilot.explain(one.request_id).matched_tokens for one in found])


def ratio(parts: Sequence[Sequence[Sequence[Block]]]) -> float:
    """Return the hit ratio of parts, each in a cache of its own, in percent."""
    weights = {block.key: block.weight for part in parts for one in part for block in one}
    sums = [simulate([[b.key for b in one] for one in part], weights) for part in parts]
    return 100 * sum(one.hits for one in sums) / sum(one.tokens for one in sums)


def pieces(contexts: Sequence[Sequence[Block]], groups: Sequence[Sequence[int]]) -> list[Any]:
    """Plan each group by itself."""
    return [planned([contexts[at] for at in group]).contexts for group in groups]


def main() -> int:
    """Run all cuts of one workload."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("workload")
    parser.add_argument("--limit", type=int, metavar="N", help="take the first N requests")
    arguments = parser.parse_args()
    contexts = read_workload(arguments.workload).first(arguments.limit).contexts
    contexts = [list({block.key: block for block in one}.values()) for one in contexts]
    whole = planned(contexts)
    best, count = ratio([whole.contexts]), len(contexts)
    print(machine_line())
    print(f"{count} requests; as given {ratio([contexts]):.2f} %, one plan {best:.2f} %")
    print(
        "parts | runs of the plan | equally long | clustered by a sample | as they came | at random"
    )
    for parts in PARTS:
        size = -(-count // parts)
        grouped = clusters(contexts, size, lambda some: planned(some).order)
        mixed = random.Random(1).sample(range(count), count)
        rows = [
            ratio(runs_of(whole.contexts, parts, whole.shared, SLACK)),
            ratio(runs_of(whole.contexts, parts)),
            ratio(pieces(contexts, grouped)),
            ratio(pieces(contexts, runs_of(range(count), parts))),
            ratio(pieces(contexts, runs_of(mixed, parts))),
        ]
        shown = " | ".join(f"{row:.2f} ({row - best:+.2f})" for row in rows)
        print(f"{parts} | {shown}", flush=True)
    return 0


if __name__ == "__main__":
    import plainly

    plainly.run(main)

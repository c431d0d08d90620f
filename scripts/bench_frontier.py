"""Print and draw hits against displacement, for every workload, mode and several costs.

    python scripts/bench_frontier.py --workloads DIR [--out frontier.png] [--sketches DIR]
        [--only NAME ...] [--costs 0 15 25 50 75 100 200 400] [--modes online window batch]

Displacement: mean distance between a block's place and its rank, over that of a random order; with
`--anchor end`, anchored blocks are left out of it. Hits: of an unlimited prefix cache, in percent
of the blocks' tokens. Moved: requests of the second half whose order changed, and those of them
that hit no more than as given. `--sketches` (a folder with online_weighted.py) adds a reference.
"""

from __future__ import annotations

import argparse
import importlib
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench_plan import read_workload
from machine import machine_line
from workloads import workload_files

from contextpilot.block import Block, unique
from contextpilot.index import ContextIndex
from contextpilot.plan.batch import BatchPlanner
from contextpilot.plan.bounds import ANCHORS, Bounds
from contextpilot.plan.online import OnlinePlanner, Plan
from contextpilot.plan.simulate import PrefixCache
from contextpilot.plan.support import SupportWindow

MODES = ("online", "window", "batch")
COSTS = (0, 15, 25, 50, 75, 100, 200, 400)
WINDOW = 16
Contexts = list[list[Block]]


class Point(NamedTuple):
    """Hits in percent, displacement, and the shares of the second half that moved (for nothing)."""

    hits: float
    displacement: float
    moved: float
    in_vain: float

    def __str__(self) -> str:
        return (
            f"{self.hits:5.1f} % at {self.displacement:.2f}; moved {100 * self.moved:3.0f} %, "
            f"{100 * self.in_vain:2.0f} % for nothing"
        )


class Track:
    """Sums over the requests of one run."""

    def __init__(self, contexts: Contexts, anchored: int = 0) -> None:
        self._anchored = anchored
        self._half = len(contexts) // 2
        self._weights = {block.key: block.weight for context in contexts for block in context}
        self._cache = PrefixCache(None)
        self._seen = ContextIndex()
        self._displaced: list[float] = []
        self._moved: list[bool] = []
        self._vain: list[bool] = []

    def add(self, context: Sequence[Block], order: Sequence[int]) -> None:
        """Count a request whose blocks are sent in this order of their ranks."""
        keys = [context[rank].key for rank in order]
        as_given = self._tokens([block.key for block in context])
        moved = list(order) != sorted(order)
        self._moved.append(moved)
        self._vain.append(moved and self._tokens(keys) <= as_given)
        self._seen.insert(keys)
        self._cache.request(keys, self._weights, str(len(self._moved)))
        at_end = (
            self._anchored
            if list(order[::-1][: self._anchored]) == list(range(self._anchored))
            else 0
        )
        rest = [rank - at_end for rank in order if rank >= at_end]
        if len(rest) > 1:
            shifts = sum(abs(place - rank) for place, rank in enumerate(rest))
            self._displaced.append(shifts / (len(rest) ** 2 / 3))

    def _tokens(self, keys: Sequence[Any]) -> int:
        return sum(self._weights[key] for key in keys[: self._seen.match(keys)])

    def point(self) -> Point:
        """Return the sums as means."""
        count = max(1, len(self._moved) - self._half)
        return Point(
            100 * self._cache.totals.hit_ratio,
            sum(self._displaced) / max(1, len(self._displaced)),
            sum(self._moved[self._half :]) / count,
            sum(self._vain[self._half :]) / count,
        )


def planned(contexts: Contexts, mode: str, bounds: Bounds) -> Point:
    """Plan a workload in one mode."""
    track = Track(contexts, bounds.anchor_blocks if bounds.anchor != "none" else 0)
    planner = OnlinePlanner(ContextIndex(), SupportWindow())
    for position, plan in plans(contexts, mode, bounds, planner):
        planner.learn(contexts[position], plan, str(position))
        track.add(contexts[position], plan.order)
    return track.point()


def plans(
    contexts: Contexts, mode: str, bounds: Bounds, planner: OnlinePlanner
) -> Iterator[tuple[int, Plan]]:
    """Yield positions and plans in execution order; the caller lets the planner learn each."""
    if mode == "online":
        for position, context in enumerate(contexts):
            yield position, planner.plan(context, bounds)
        return
    together = BatchPlanner(planner)
    size = WINDOW if mode == "window" else len(contexts)
    for start in range(0, len(contexts), size):
        waiting = contexts[start : start + size]
        for position, plan in together.walk(waiting, together.prepare(waiting, bounds), bounds):
            yield start + position, plan


def compared(contexts: Contexts, sketches: bool) -> dict[str, Point]:
    """Return the orders that need no planner, and the sketch's."""
    chance = random.Random(1)
    ways: dict[str, list[list[int]]] = {"as given": [], "random": [], "sorted": []}
    for context in contexts:
        ranks = list(range(len(context)))
        ways["as given"].append(ranks)
        ways["random"].append(chance.sample(ranks, len(ranks)))
        ways["sorted"].append(sorted(ranks, key=lambda rank: str(context[rank].key)))
    if sketches:
        online = importlib.import_module("online_weighted").online
        keys = [[block.key for block in context] for context in contexts]
        weights = {block.key: block.weight for context in contexts for block in context}
        listed = [weights.get(key, 1) for key in range(1 + max(weights))]
        orders = online(keys, listed, 4, 64)[0]
        ways["sketch"] = [
            [own.index(key) for key in order] for own, order in zip(keys, orders, strict=True)
        ]
    points = {}
    for name, orders in ways.items():
        track = Track(contexts)
        for context, order in zip(contexts, orders, strict=True):
            track.add(context, order)
        points[name] = track.point()
    return points


def draw(found: dict[str, dict[str, list[Point]]], path: Path) -> None:
    """Draw one panel a workload."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = min(5, len(found))
    rows = -(-len(found) // columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(3.2 * columns, 2.8 * rows), squeeze=False, constrained_layout=True
    )
    for panel in axes.flat[len(found) :]:
        panel.axis("off")
    for panel, (name, lines) in zip(axes.flat, found.items(), strict=False):
        panel.set_title(name, fontsize=10)
        for label, points in lines.items():
            marker = "o-" if len(points) > 1 else "x"
            panel.plot(
                [point.displacement for point in points],
                [point.hits for point in points],
                marker,
                label=label,
                markersize=4,
            )
        panel.set_xlim(0, 1.1)
        panel.set_ylim(bottom=0)
    axes.flat[len(found) - 1].legend(fontsize=7)
    figure.supxlabel("displacement (random order: 1)")
    figure.supylabel("hit ratio, %")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print the table, then draw it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workloads", type=Path, required=True, help="folder of NAME.json.gz")
    parser.add_argument("--sketches", type=Path)
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--costs", nargs="+", type=int, default=COSTS)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--anchor", choices=ANCHORS, default="none")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.sketches is not None:
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(arguments.sketches))
    print(machine_line("numpy", "scipy"))
    found: dict[str, dict[str, list[Point]]] = {}
    for path in workload_files(arguments.workloads, arguments.only or ()):
        name = path.name.partition(".")[0]
        contexts = [unique(context) for context in read_workload(path)]
        lines = {
            label: [point] for label, point in compared(contexts, bool(arguments.sketches)).items()
        }
        for mode in arguments.modes:
            lines[mode] = [
                planned(contexts, mode, Bounds(displacement_cost=cost, anchor=arguments.anchor))
                for cost in arguments.costs
            ]
        found[name] = lines
        print(f"{name}, {len(contexts):,} requests")
        for label, points in lines.items():
            for point, cost in zip(points, arguments.costs, strict=False):
                title = f"{label} {cost}" if len(points) > 1 else label
                print(f"  {title:12s} {point}", flush=True)
    if arguments.out is not None:
        draw(found, arguments.out)


if __name__ == "__main__":
    import plainly

    plainly.run(main)

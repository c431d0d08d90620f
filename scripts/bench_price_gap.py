"""Print how near batches come to the best of all plans, at a price of displacement.

    python scripts/bench_price_gap.py --workloads DIR [--only NAME ...] [--instances N]
        [--requests 5] [--blocks 8]

On instances so small that the best of all plans is known: a request and those most like it, of each
the first blocks. The value of a plan is what hits, in tokens, less the price of what is displaced;
the planner is told the same price. The most that any plan hits at a displacement D follows from
the best ones at all prices: value(price) + price * D, at the price where that is least.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from bench_frontier import Contexts, plans
from bench_plan import read_workload
from machine import machine_line
from workloads import workload_files

from contextpilot.block import unique
from contextpilot.index import ContextIndex
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import OnlinePlanner
from contextpilot.plan.price import displacement
from contextpilot.plan.simulate import PrefixCache
from contextpilot.plan.support import SupportWindow

COSTS = (0, 25, 50, 100, 200)
PARTS = (1.0, 0.75, 0.5, 0.25)
PRICES = (0, 5, 10, 20, 30, 40, 50, 65, 80, 100, 130, 200, 400)
"""Tokens that moving a context as a random order does would cost."""
Displaced = Callable[[Sequence[int]], float]


def footrule(order: Sequence[int]) -> float:
    """Return the mean distance between a block's place and its rank, over a random order's."""
    return sum(abs(place - rank) for place, rank in enumerate(order)) / max(1, len(order) ** 2 / 3)


class Worth(NamedTuple):
    """What a plan is worth at a price, tokens that hit, and what it displaces in all."""

    value: float
    hits: int
    displaced: float

    def plus(self, other: Worth, hits: int = 0) -> Worth:
        """Return both together, and tokens that hit besides."""
        return Worth(self.value + other.value + hits, self.hits + other.hits + hits,
                     self.displaced + other.displaced)  # fmt: skip


NOTHING = Worth(0.0, 0, 0.0)


def optimum(contexts: Contexts, price: float, displaced: Displaced) -> Worth:
    """Return the best of all plans of a few contexts, in an unlimited cache."""
    ranks = [{block.key: rank for rank, block in enumerate(own)} for own in contexts]
    weights = {block.key: block.weight for own in contexts for block in own}

    def alone(i: int, prefix: tuple[Any, ...]) -> Worth:
        front = [ranks[i][key] for key in prefix]
        order = [*front, *(rank for rank in range(len(ranks[i])) if rank not in front)]
        moved = displaced(order)
        return Worth(-price * moved, 0, moved)

    @cache
    def together(group: int, prefix: tuple[Any, ...]) -> Worth:
        """Return the best of these contexts, all of which begin with the prefix."""
        if not group:
            return NOTHING
        first = (group & -group).bit_length() - 1
        others = group & (group - 1)
        best = alone(first, prefix).plus(together(others, prefix))
        some = others
        while some:  # every set that goes on with the first context
            members = [i for i in range(len(ranks)) if (some >> i) & 1]
            left = None
            for key in ranks[first]:
                if key in prefix or not all(key in ranks[i] for i in members):
                    continue
                left = left or together(others & ~some, prefix)
                begun = together(some | 1 << first, (*prefix, key))
                best = max(best, begun.plus(left, len(members) * weights[key]))
            some = (some - 1) & others
        return best

    return together((1 << len(ranks)) - 1, ())


def planned(contexts: Contexts, cost: int) -> list[list[int]]:
    """Return the orders of a batch, by position."""
    bounds = Bounds(displacement_cost=cost, anchor="none", min_gain_tokens=1)
    planner = OnlinePlanner(ContextIndex(), SupportWindow())
    orders: list[list[int]] = [[]] * len(contexts)
    for position, plan in plans(contexts, "batch", bounds, planner):
        planner.learn(contexts[position], plan, str(position))
        orders[position] = [*plan.order]
    return orders


def worth(
    contexts: Contexts, orders: Sequence[Sequence[int]], price: float, displaced: Displaced
) -> Worth:
    """Return what a plan is worth at a price."""
    cache = PrefixCache(None)
    weights = {block.key: block.weight for own in contexts for block in own}
    for position, order in enumerate(orders):
        cache.request([contexts[position][rank].key for rank in order], weights, str(position))
    moved = sum(map(displaced, orders))
    return Worth(cache.totals.hits - price * moved, cache.totals.hits, moved)


def instances(contexts: Contexts, count: int, requests: int, blocks: int) -> list[Contexts]:
    """Return small ones: the first blocks of a request and of those that share most with them."""
    draw = random.Random(7)
    cut = [own[:blocks] for own in contexts]
    found = []
    for own in draw.sample(cut, min(count, len(cut))):
        held = {block.key for block in own}
        shared = [sum(b.weight for b in other if b.key in held) for other in cut]
        nearest = sorted(range(len(cut)), key=lambda i: -shared[i])
        found.append([cut[i] for i in nearest[:requests]])
    return found


def print_small(found: Sequence[Contexts]) -> None:
    """Print the planner beside the best of all plans, and what is possible at less displacement."""
    total = sum(block.weight for contexts in found for own in contexts for block in own)
    for cost in COSTS:
        orders = [planned(contexts, cost) for contexts in found]
        mine = _sum(worth(c, own, cost, displacement) for c, own in zip(found, orders, strict=True))
        best = _sum(optimum(contexts, cost, displacement) for contexts in found)
        print(
            f"  cost {cost:3d}: value {100 * mine.value / best.value:.1f} % of the best; hits "
            f"{100 * mine.hits / total:.1f} %, best {100 * best.hits / total:.1f} %; displaced "
            f"{mine.displaced:.0f}, best {best.displaced:.0f}",
            flush=True,
        )
    full = _sum(worth(contexts, planned(contexts, 0), 0, footrule) for contexts in found)
    values = {price: _sum(optimum(c, price, footrule) for c in found).value for price in PRICES}
    for part in PARTS:
        most = min(value + price * part * full.displaced for price, value in values.items())
        print(f"  at {part:g} of full gain's displacement no plan hits more than "
              f"{100 * most / full.hits:.1f} % of its hits", flush=True)  # fmt: skip


def _sum(worths: Iterable[Worth]) -> Worth:
    total = NOTHING
    for each in worths:
        total = total.plus(each)
    return total


def main() -> None:
    """Print both for each workload."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workloads", type=Path, required=True, help="folder of NAME.json.gz")
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--instances", type=int, default=40)
    parser.add_argument("--requests", type=int, default=5)
    parser.add_argument("--blocks", type=int, default=8)
    arguments = parser.parse_args()
    print(machine_line("numpy", "scipy"))
    for path in workload_files(arguments.workloads, arguments.only or ()):
        contexts = [unique(context) for context in read_workload(path)]
        print(f"{path.name.partition('.')[0]}, {arguments.instances} times {arguments.requests} "
              f"requests of {arguments.blocks} blocks", flush=True)  # fmt: skip
        print_small(instances(contexts, arguments.instances, arguments.requests, arguments.blocks))


if __name__ == "__main__":
    import plainly

    plainly.run(main)

"""Print whether local search finds better batches than the planner: trees that save more tokens.

    python scripts/bench_local_search.py [--workloads DIR] [--only NAME ...] [--seconds S]

At no displacement cost a tree of contexts saves, at each inner node of k children, k - 1 times what
they share. From the planner's tree on, whole subtrees are taken out and put back where that saves
most (beside another one, or among the children of a node), until nothing gains; then, for as long
again, a few are put anywhere at random and the search repeated, the best tree being kept. First on
instances so small that the best of all trees is known, then on workloads.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench_plan import read_workload
from machine import machine_line
from workloads import workload_files

from contextpilot.block import unique
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.tree import MergeTree, agglomerate

FREE = Bounds(min_gain_tokens=1, displacement_cost=0)
TOP = -1
"""The node above all roots; it shares nothing."""


class Forest:
    """A tree of contexts that can be changed; sets of blocks are the bits of integers."""

    def __init__(self, sets: Sequence[Any], weights: Sequence[int], tree: MergeTree) -> None:
        self._weigh = weigher(weights)
        self.children = {node: list(own) for node, own in tree.children.items()}
        self.children[TOP] = list(tree.roots)
        self.parent = {child: node for node, own in self.children.items() for child in own}
        self.shared = {i: sum(1 << int(block) for block in own) for i, own in enumerate(sets)}
        for node in sorted(tree.children):  # children have lower numbers
            self._share(node)
        self.shared[TOP] = 0
        self._next = len(sets) + len(tree.children)

    def copy(self) -> Forest:
        """Return the same tree, which changes on its own."""
        other = object.__new__(Forest)
        other.__dict__ = dict(self.__dict__)
        other.children = {node: list(own) for node, own in self.children.items()}
        other.parent, other.shared = dict(self.parent), dict(self.shared)
        return other

    def saved(self) -> int:
        """Return the tokens that the tree saves."""
        return sum(map(self._saves, self.children))

    def _saves(self, node: int) -> int:
        return (len(self.children[node]) - 1) * self._weigh(self.shared[node])

    def _share(self, node: int) -> None:
        common = -1
        for child in self.children[node]:
            common &= self.shared[child]
        self.shared[node] = common

    def above(self, node: int) -> list[int]:
        """Return the nodes above one, the nearest first, without the top."""
        found = []
        while (node := self.parent[node]) != TOP:
            found.append(node)
        return found

    def take_out(self, node: int) -> tuple[int, Callable[[], None]]:
        """Detach a subtree; return what is saved more without it, and what puts it back."""
        above, parent = self.above(node), self.parent[node]
        before = sum(map(self._saves, above))
        old = {each: (list(self.children[each]), self.shared[each]) for each in (*above, TOP)}
        self.children[parent].remove(node)
        if parent != TOP and len(self.children[parent]) == 1:
            [left], over = self.children.pop(parent), self.parent[parent]
            self.children[over][self.children[over].index(parent)] = left
            self.parent[left] = over
            above = above[1:]
        for each in above:
            self._share(each)

        def put_back() -> None:
            for each, (own, shared) in old.items():
                self.children[each], self.shared[each] = own, shared
                self.parent.update(dict.fromkeys(own, each))

        return sum(map(self._saves, above)) - before, put_back

    def best_place(self, node: int) -> tuple[int, int, bool]:
        """Return what a detached subtree saves at best, at which node, beside it or below."""
        own, best = self.shared[node], (0, TOP, False)
        most = self._weigh(own)
        stack = [(root, 0) for root in self.children[TOP]]
        while stack:
            at, lost = stack.pop()
            both = self._weigh(own & self.shared[at])
            best = max(best, (lost + both, at, True))
            if at in self.children:
                count, alone = len(self.children[at]), self._weigh(self.shared[at])
                best = max(best, (lost + count * both - (count - 1) * alone, at, False))
                lost += (count - 1) * (both - alone)
                if lost + most > best[0]:
                    stack.extend((child, lost) for child in self.children[at])
        return best

    def put(self, node: int, at: int, is_beside: bool) -> None:
        """Attach a detached subtree."""
        if is_beside:
            over, new = self.parent[at], self._next
            self._next += 1
            self.children[over][self.children[over].index(at)] = new
            self.children[new], self.parent[new] = [at], over
            self.parent[at], self.shared[new] = new, self.shared[at]
            at = new
        self.children[at].append(node)
        self.parent[node] = at
        while at != TOP:
            self.shared[at] &= self.shared[node]
            at = self.parent[at]

    def nodes(self) -> list[int]:
        """Return all nodes but the top."""
        return [child for own in self.children.values() for child in own]


def weigher(weights: Sequence[int]) -> Callable[[int], int]:
    """Return what tells the tokens of a set of blocks."""
    known: dict[int, int] = {}

    def weigh(blocks: int) -> int:
        if blocks not in known:
            rest, total = blocks, 0
            while rest:
                lowest = rest & -rest
                total += weights[lowest.bit_length() - 1]
                rest ^= lowest
            known[blocks] = total
        return known[blocks]

    return weigh


def improve(forest: Forest, draw: random.Random, until: float) -> None:
    """Put subtrees elsewhere until none is better there, or as far as time allows."""
    is_better = True
    while is_better:
        is_better = False
        for node in draw.sample(nodes := forest.nodes(), len(nodes)):
            if time.process_time() >= until:
                return
            if node not in forest.children.get(forest.parent[node], ()):
                continue  # it went with its last but one child
            gained, put_back = forest.take_out(node)
            place = forest.best_place(node)
            if gained + place[0] > 0:
                forest.put(node, *place[1:])
                is_better = True
            else:
                put_back()


def disturbed(forest: Forest, draw: random.Random) -> Forest:
    """Return a tree in which some subtrees stand where they did not gain most."""
    other = forest.copy()
    for _ in range(max(1, len(other.nodes()) // 100)):
        node = draw.choice(other.nodes())
        other.take_out(node)
        own = other.shared[node]
        places = [
            at
            for at in other.nodes()
            if own & other.shared[at] and node != at and node not in other.above(at)
        ]
        other.put(node, *((draw.choice(places), True) if places else (TOP, False)))
    return other


def searched(sets: Sequence[Any], weights: Sequence[int], seconds: float) -> list[int]:
    """Return tokens saved: as planned, after local search, and after restarts."""
    draw = random.Random(5)
    tree = agglomerate(sets, np.array(weights), FREE)
    forest = Forest(sets, weights, tree)
    saved = [forest.saved()]
    improve(forest, draw, time.process_time() + seconds)
    saved.append(forest.saved())
    until, best = time.process_time() + seconds, forest
    while time.process_time() < until:
        other = disturbed(best, draw)
        improve(other, draw, until)
        if other.saved() >= best.saved():
            best = other
    return [*saved, best.saved()]


def print_small() -> None:
    """Against the best of all trees."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from oracles import optimal_saving

    print("part of the optimum, mean and worst, and how often it is reached: planner; search; more")
    draw = np.random.default_rng(3)
    for size, pool, per_context, count in ((4, 6, 4, 60), (6, 9, 4, 40), (8, 12, 6, 12)):
        ratios = []
        for _ in range(count):
            sets = [np.sort(draw.choice(pool, per_context, replace=False)) for _ in range(size)]
            weights = draw.integers(20, 400, pool).tolist()
            best = optimal_saving(
                [frozenset(own.tolist()) for own in sets], dict(enumerate(weights))
            )
            ratios.append([saved / best for saved in searched(sets, weights, 0.05)])
        table = np.array(ratios)
        cells = [
            f"{mean:.3f} {worst:.3f} {reached} of {count}"
            for mean, worst, reached in zip(
                table.mean(0), table.min(0), (table > 1 - 1e-9).sum(0), strict=True
            )
        ]
        print(f"  {size} contexts, {per_context} of {pool} blocks: " + "; ".join(cells), flush=True)


def print_workload(path: Path, seconds: float) -> None:
    """Hit ratios of an unlimited cache, in percent."""
    numbers: dict[Any, int] = {}
    contexts = [unique(context) for context in read_workload(path)]
    weights = {block.key: block.weight for context in contexts for block in context}
    sets = [[numbers.setdefault(block.key, len(numbers)) for block in one] for one in contexts]
    total = sum(block.weight for context in contexts for block in context)
    found = searched([np.array(own) for own in sets], [weights[key] for key in numbers], seconds)
    cells = "; ".join(f"{100 * saved / total:.2f} %" for saved in found)
    print(f"  {path.name.partition('.')[0]}, {len(contexts):,} requests: {cells}", flush=True)


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workloads", type=Path, help="folder of NAME.json.gz")
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--seconds", type=float, default=5, help="of processor, for each half")
    arguments = parser.parse_args()
    print(machine_line("numpy", "scipy"))
    print_small()
    if arguments.workloads is not None:
        print(f"hit ratio: planner; search of {arguments.seconds:g} s; as long again with restarts")
        for path in workload_files(arguments.workloads, arguments.only or ()):
            print_workload(path, arguments.seconds)


if __name__ == "__main__":
    import plainly

    plainly.run(main)

"""Which prefixes are worth computing before anybody asks for them: a tree knapsack.

Contexts of a log, planned as a batch, are a prefix tree of blocks. A block in it that `uses`
contexts pass costs its tokens once and earns them so many times: per token it earns its uses. Uses
never rise on the way down, so for a budget the most used blocks come first (exactly best but for
what does not fit at the end), and what is taken is always a prefix.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import NamedTuple, TypeAlias

from contextpilot.block import Block, BlockKey, unique
from contextpilot.index import ContextIndex
from contextpilot.plan.batch import BatchPlanner
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import OnlinePlanner
from contextpilot.plan.simulate import CacheTotals, PrefixCache
from contextpilot.plan.support import SupportWindow
from contextpilot.plan.tree import Progress

LEAST_USES = 2
"""What one context alone passed is not known to recur: its tokens are not spent."""

Path: TypeAlias = tuple[BlockKey, ...]


class Prefix(NamedTuple):
    """A prefix to compute, after those before it in a list.

    Attributes:
        keys: its blocks.
        tokens: what is computed for it: blocks that no prefix before it has.
        earned: tokens of the log's contexts that they are.
    """

    keys: Path
    tokens: int
    earned: int


class Outlook(NamedTuple):
    """What warming is expected to bring: the second half of a log after a plan of the first.

    Attributes:
        cold, warm: sums over the second half, planned one at a time.
        spent: tokens computed beforehand.
    """

    cold: CacheTotals
    warm: CacheTotals
    spent: int

    @property
    def saved(self) -> int:
        """Tokens of the second half that are not computed any more."""
        return self.warm.hits - self.cold.hits


class _Node:
    __slots__ = ("children", "is_kept", "uses")

    def __init__(self) -> None:
        self.children: dict[BlockKey, _Node] = {}
        self.uses = 0
        self.is_kept = False


_Wanted: TypeAlias = tuple[int, int, BlockKey, _Node]


def planned_paths(
    contexts: Sequence[Sequence[Block]], bounds: Bounds, progress: Progress | None = None
) -> list[Path]:
    """Return the blocks of contexts as a batch plans them, in its execution order."""
    planner = OnlinePlanner(ContextIndex(), SupportWindow())
    batch, contexts = BatchPlanner(planner), [unique(context) for context in contexts]
    groups = batch.prepare(contexts, bounds, progress=progress)
    paths = []
    for position, plan in batch.walk(contexts, groups, bounds):
        planner.learn(contexts[position], plan, str(position))
        paths.append(tuple(contexts[position][rank].key for rank in plan.order))
    return paths


def worth_computing(
    paths: Sequence[Path],
    weights: Mapping[BlockKey, int],
    budget: int,
    least_uses: int = LEAST_USES,
) -> list[Prefix]:
    """Return the prefixes that earn most within a budget, the most used first.

    Args:
        paths: planned contexts, each from the first block of its prompt on.
        weights: tokens of each block.
        budget: tokens to compute; no more than the engine's cache holds.
        least_uses: blocks that fewer contexts pass are left out.
    """
    root = _tree_of(paths)
    _keep(root, weights, budget, least_uses)
    return list(_prefixes(root, weights))


def _tree_of(paths: Sequence[Path]) -> _Node:
    root = _Node()
    for path in paths:
        node = root
        for key in path:
            node = node.children.setdefault(key, _Node())
            node.uses += 1
    return root


def _keep(root: _Node, weights: Mapping[BlockKey, int], budget: int, least_uses: int) -> None:
    """Mark what is worth its tokens: the most used first, of equals what was found first."""
    number = count()
    heap = _wanted(root, least_uses, number)
    heapq.heapify(heap)
    while heap:
        _, _, key, node = heapq.heappop(heap)
        if weights[key] > budget:  # nor is there room for what follows it
            continue
        node.is_kept = True
        budget -= weights[key]
        for below in _wanted(node, least_uses, number):
            heapq.heappush(heap, below)


def _wanted(node: _Node, least_uses: int, number: Iterator[int]) -> list[_Wanted]:
    """Return the children that enough contexts pass, as they are compared."""
    found = ((key, child) for key, child in node.children.items() if child.uses >= least_uses)
    return [(-child.uses, next(number), key, child) for key, child in found]


def _prefixes(root: _Node, weights: Mapping[BlockKey, int]) -> Iterator[Prefix]:
    """Yield the kept paths that end, depth first; what a path shares counts with the first."""
    stack: list[tuple[_Node, Path, int, int]] = [(root, (), 0, 0)]
    while stack:
        node, path, tokens, earned = stack.pop()
        kept = [(key, child) for key, child in node.children.items() if child.is_kept]
        if not kept and path:
            yield Prefix(path, tokens, earned)
        kept.sort(key=lambda each: -each[1].uses)  # of equals, the first stays first
        for place in reversed(range(len(kept))):
            key, child = kept[place]
            cost, gain = (tokens, earned) if place == 0 else (0, 0)
            own = weights[key]
            stack.append((child, (*path, key), cost + own, gain + own * child.uses))


def outlook(
    contexts: Sequence[Sequence[Block]],
    budget: int,
    capacity: int | None = None,
    bounds: Bounds | None = None,
) -> Outlook:
    """Plan the first half of a log, with half of the budget, and replay the second after it.

    Args:
        contexts: in order of arrival.
        budget: tokens to spend for the whole log.
        capacity: tokens that the engine's cache holds; None for no bound.
    """
    bounds = bounds or Bounds()
    half = len(contexts) // 2
    first, second = contexts[:half], contexts[half:]
    weights = {block.key: block.weight for context in contexts for block in context}
    prefixes = worth_computing(planned_paths(first, bounds), weights, budget // 2)
    cold = _replayed(second, (), weights, capacity, bounds)
    warm = _replayed(second, prefixes, weights, capacity, bounds)
    return Outlook(cold, warm, sum(prefix.tokens for prefix in prefixes))


def _replayed(
    contexts: Sequence[Sequence[Block]],
    before: Sequence[Prefix],
    weights: Mapping[BlockKey, int],
    capacity: int | None,
    bounds: Bounds,
) -> CacheTotals:
    """Return the sums over contexts, planned one at a time, after these prefixes were computed."""
    planner, cache = OnlinePlanner(ContextIndex(), SupportWindow()), PrefixCache(capacity)
    for prefix in before:
        cache.request(prefix.keys, weights)
        planner.index.insert(prefix.keys)
        planner.window.add(prefix.keys)
    spent = cache.totals
    for number, context in enumerate(map(unique, contexts)):
        plan = planner.plan(context, bounds)
        planner.learn(context, plan, str(number))
        cache.request([context[rank].key for rank in plan.order], weights)
    done = cache.totals
    return CacheTotals(done.tokens - spent.tokens, done.hits - spent.hits)

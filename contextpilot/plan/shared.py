"""Which of the blocks that several contexts share come first in all of them, and in which order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from contextpilot.block import BlockKey
from contextpilot.plan.placeable import Placeable
from contextpilot.plan.price import Waiting, relevances

_PRICED_CONTEXTS = 8
"""Contexts on whose displacement a set is judged; the others below a node resemble them."""


def by_mean_rank(keys: Sequence[BlockKey], contexts: Iterable[Placeable]) -> list[BlockKey]:
    """Return blocks in the order of least displacement: by mean original rank."""
    ranks = dict.fromkeys(keys, 0)
    for context in contexts:
        own = context.ranks
        for key in keys:
            ranks[key] += own[key]
    return sorted(keys, key=ranks.__getitem__)


def worth_sharing(
    keys: Sequence[BlockKey],
    prefix: Sequence[BlockKey],
    contexts: Sequence[Placeable],
    num_contexts: int,
    cost: float,
) -> list[BlockKey]:
    """Return those of `keys` that save more, placed after `prefix`, than their moves cost.

    Args:
        keys: blocks of all contexts, in the order in which they would be placed.
        contexts: some of those that share them.
        num_contexts: how many share them; all but the first find them in the cache.
        cost: of displacement; 0 places all.
    """
    if not cost:
        return list(keys)
    some = contexts[:_PRICED_CONTEXTS]
    waiting = [_waiting(context, prefix) for context in some]
    chosen = []
    for key in keys:
        ranks = [context.ranks[key] for context in some]
        moved = sum(own.price(rank) for own, rank in zip(waiting, ranks, strict=True))
        saved = some[0].weights[key] * (num_contexts - 1) / num_contexts
        if saved >= cost * moved / len(some):
            chosen.append(key)
            for own, rank in zip(waiting, ranks, strict=True):
                own.take(rank)
    return chosen


def _waiting(context: Placeable, prefix: Sequence[BlockKey]) -> Waiting:
    """Return what of a context may still move after `prefix`."""
    free = {context.ranks[key] for key in context.rest(prefix)}
    count = len(context.weights)
    return Waiting(relevances(count), set(range(count)) - free)

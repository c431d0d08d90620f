"""Batches in parts: runs of a plan for several senders, and batches too large for one plan.

A plan's execution order puts next to each other what shares most, so a contiguous run of it loses
only what the requests at its two ends shared with their neighbours.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from contextpilot.block import Block, BlockKey
from contextpilot.plan.overlaps.base import Ints, set_matrix

_T = TypeVar("_T")
_ROWS = 256
"""Requests that are compared with the sample at once: bounds the memory."""
_SEED = 0


def runs_of(
    order: Sequence[_T], count: int, shared: Sequence[int] = (), slack: float = 0.0
) -> list[Sequence[_T]]:
    """Cut an order into so many contiguous runs of nearly equal length.

    Args:
        shared: for each place of `order` the tokens that it shares with those before it, which are
            lost where a run begins.
        slack: how far a cut may be from its place, to lose less: a part of the length of a run.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, but is {count}")
    if not 0 <= slack < 0.5:
        raise ValueError(f"slack must be at least 0 and below 0.5, but is {slack}")
    size, longer = divmod(len(order), count)
    ends = [size * at + min(at, longer) for at in range(count + 1)]
    if shared:
        room = int(slack * size)
        ends[1:-1] = [_cheapest(shared, end, room) for end in ends[1:-1]]
    return [order[start:end] for start, end in pairwise(ends)]


def _cheapest(shared: Sequence[int], place: int, room: int) -> int:
    """Return the place near a given one where a cut loses least; of equal ones the nearest."""
    near = range(max(0, place - room), min(len(shared), place + room + 1))
    return min(near, key=lambda at: (shared[at], abs(at - place)), default=place)


def clusters(
    contexts: Sequence[Sequence[Block]],
    max_size: int,
    plan: Callable[[list[Sequence[Block]]], Sequence[int]],
) -> list[list[int]]:
    """Return groups of at most `max_size` contexts that share much, as positions.

    A random sample that one plan can hold is planned; its execution order is the map. Each other
    context goes behind the one of the sample with which it shares most tokens, and the whole is cut
    into contiguous runs.

    Args:
        plan: returns the execution order of a batch that one plan can hold, as positions.
    """
    count = len(contexts)
    if max_size < 1:
        raise ValueError(f"max_size must be at least 1, but is {max_size}")
    if count <= max_size:
        return [list(range(count))] if count else []
    sample = sorted(random.Random(_SEED).sample(range(count), max_size))
    order = [sample[at] for at in plan([contexts[at] for at in sample])]
    rest = sorted({*range(count)} - {*sample})
    behind: dict[int, list[int]] = {}
    for position, near in zip(rest, _nearest(contexts, rest, order), strict=True):
        behind.setdefault(near, []).append(position)
    walk = [one for near in order for one in (near, *behind.get(near, ()))]
    return [list(run) for run in runs_of(walk, -(-count // max_size))]


def _nearest(
    contexts: Sequence[Sequence[Block]], rest: Sequence[int], sample: Sequence[int]
) -> list[int]:
    """Return for each of `rest` the one of the sample that shares most tokens with it."""
    numbers: dict[BlockKey, int] = {}
    weights: list[int] = []
    for position in sample:
        for block in contexts[position]:
            if numbers.setdefault(block.key, len(weights)) == len(weights):
                weights.append(block.weight)
    weighed = _matrix(contexts, sample, numbers).multiply(np.array(weights or [1])).T.tocsr()
    near: list[int] = []
    for start in range(0, len(rest), _ROWS):
        shared = (_matrix(contexts, rest[start : start + _ROWS], numbers) @ weighed).tocsr()
        best = np.asarray(shared.argmax(axis=1)).ravel()
        near += [sample[at] for at in best]
    return near


def _matrix(
    contexts: Sequence[Sequence[Block]], positions: Sequence[int], numbers: dict[BlockKey, int]
) -> Any:
    sets: list[Ints] = [
        np.array(sorted({numbers[b.key] for b in contexts[at] if b.key in numbers}), np.int64)
        for at in positions
    ]
    return set_matrix(sets, max(1, len(numbers)))

"""Batch planning: the order of blocks in every context, and the order in which contexts run.

The tree of `tree.agglomerate` is walked depth first: blocks newly shared at a node come next in
the prompt, and the walk is the execution order, so that even a small cache keeps what the next
context needs. With live content, a window of contexts is merged by `window.merge_window`; of a
larger batch, a context whose longest live prefix outweighs its best overlap with another waiting
context is planned alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np

from contextpilot.block import Block, BlockKey
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.leader import leader
from contextpilot.plan.online import NO_HEAD, Head, OnlinePlanner, Plan
from contextpilot.plan.overlaps.base import Arithmetic, Ints, set_matrix
from contextpilot.plan.overlaps.cpu import CPU
from contextpilot.plan.overlaps.partners import find_partners
from contextpilot.plan.placeable import Placeable, weights_of
from contextpilot.plan.price import displacement
from contextpilot.plan.tree import MergeTree, Progress, agglomerate
from contextpilot.plan.window import MAX_WINDOW, Live, merge_window


class PlannedContext(NamedTuple):
    """One step of a batch: which context runs, and in which order of its blocks."""

    position: int
    plan: Plan


class BatchPlanner:
    """Plans batches of one namespace against its live content.

    `prepare` is slow and only reads, taking `lock` for each short look at the index; `walk` is
    quick and learns: the owner of `online` holds the lock meanwhile.
    """

    def __init__(
        self,
        online: OnlinePlanner,
        lock: AbstractContextManager[Any] | None = None,
        arithmetic: Arithmetic = CPU,
    ) -> None:
        self._online = online
        self._lock = lock or nullcontext()
        self._arithmetic = arithmetic

    def prepare(
        self,
        contexts: Sequence[Sequence[Block]],
        bounds: Bounds,
        head: Head = NO_HEAD,
        progress: Progress | None = None,
    ) -> list[_Group]:
        """Build the trees of a batch: one for each distinct run of pinned blocks."""
        if not bounds.enabled:
            return [_Group((), list(range(len(contexts))), [], MergeTree(0), {}, [])]
        bounds = bounds.decided
        by_pinned: dict[tuple[BlockKey, ...], list[int]] = {}
        for position, context in enumerate(contexts):
            pinned = tuple(block.key for block in context[: bounds.pin_first])
            by_pinned.setdefault(pinned, []).append(position)
        groups: list[_Group] = []
        done = 0
        for pinned, members in by_pinned.items():
            orders, weights = _number_blocks([contexts[i] for i in members], set(pinned), bounds)
            tokens = np.array(list(weights.values()) or [1], np.int64)
            live = self._live_tokens([*head.keys, *pinned], weights)
            alone: set[int] = set()
            if live is not None and len(members) <= MAX_WINDOW:
                tree = merge_window(orders, tokens, live, bounds)
            else:
                if live is not None:
                    alone = self._live_ones(orders, tokens, live)
                orders = [numbers for i, numbers in enumerate(orders) if i not in alone]
                told = _from(progress, done, len(contexts))
                tree = agglomerate(orders, tokens, bounds, told, self._arithmetic)
            done += len(members)
            waiting = [position for i, position in enumerate(members) if i not in alone]
            own = [members[i] for i in sorted(alone)]
            groups.append(_Group(pinned, own, waiting, tree, weights, orders))
        return groups

    def _live_tokens(self, start: Sequence[BlockKey], weights: dict[BlockKey, int]) -> Live | None:
        """Return what tells the live tokens within a set of block numbers; None if nothing is."""
        index, keys = self._online.index, list(weights)
        if not index.num_blocks or not weights:
            return None

        def live(numbers: Sequence[int]) -> int:
            own = {keys[number]: weights[keys[number]] for number in numbers}
            with self._lock:
                return sum(own[key] for key in index.longest_prefix(own, start))

        return live

    def _live_ones(self, contexts: Sequence[Ints], tokens: Ints, live: Live) -> set[int]:
        """Return the contexts whose live prefix outweighs their overlap with any other."""
        rows, sets = np.arange(len(contexts)), set_matrix(contexts, len(tokens))
        overlaps = find_partners(sets, tokens, rows, rows, self._arithmetic).scores
        held = [live(numbers.tolist()) for numbers in contexts]
        return {i for i, overlap in enumerate(overlaps) if held[i] and held[i] >= overlap}

    def walk(
        self,
        contexts: Sequence[Sequence[Block]],
        groups: Sequence[_Group],
        bounds: Bounds,
        head: Head = NO_HEAD,
    ) -> Iterator[PlannedContext]:
        """Yield the contexts in execution order. The caller learns each before asking the next."""
        bounds = bounds.decided
        walk = _Walk(self._online, contexts, bounds, head)
        for group in groups:
            for position in group.alone:
                plan = self._online.plan(contexts[position], bounds, head)
                yield PlannedContext(position, plan)
        for group in groups:
            yield from walk.waiting(group)


class _Walk:
    """Depth-first walk over the trees of a batch; live content decides where it can."""

    def __init__(
        self,
        online: OnlinePlanner,
        contexts: Sequence[Sequence[Block]],
        bounds: Bounds,
        head: Head,
    ) -> None:
        self._online = online
        self._contexts = contexts
        self._bounds = bounds
        self._head = head
        self._has_history = len(online.window) > 0

    def waiting(self, group: _Group) -> Iterator[PlannedContext]:
        keys, tokens = list(group.weights), np.array([*group.weights.values()], np.int64)
        for root in group.tree.roots:
            first = self._leader(group, root, tokens)
            if first is not None:
                position = group.waiting[first]
                order = Placeable(self._contexts[position], self._bounds).order([])
                plan = self._online.finish(self._contexts[position], order, self._head)
                yield PlannedContext(position, plan)
            yield from self._below(group, keys, root, first)

    def _leader(self, group: _Group, root: int, tokens: Ints) -> int | None:
        """Return who of a tree runs first without a move, if anyone does."""
        bounds = self._bounds
        if self._has_history or not bounds.displacement_cost or bounds.anchor == "moved":
            return None
        return leader(group.tree, root, group.orders, tokens)

    def _below(
        self, group: _Group, keys: Sequence[BlockKey], root: int, done: int | None
    ) -> Iterator[PlannedContext]:
        """Yield the contexts of one tree but the one that is done."""
        tree = group.tree
        stack = [(root, group.pinned)]
        while stack:
            node, prefix = stack.pop()
            if node == done:
                continue
            if node < tree.num_contexts:
                position = group.waiting[node]
                if len(prefix) == len(group.pinned):  # shares nothing with those that wait
                    plan = self._online.plan(self._contexts[position], self._bounds, self._head)
                else:
                    plan = self._plan_leaf(self._contexts[position], prefix)
                yield PlannedContext(position, plan)
                continue
            placed = set(prefix)
            shared = [keys[number] for number in tree.shared[node].tolist()]
            new = [key for key in shared if key not in placed]
            if new:
                prefix = (*prefix, *self._live_first(group, node, prefix, new))
            stack.extend((child, prefix) for child in reversed(tree.children[node]))

    def _plan_leaf(self, blocks: Sequence[Block], prefix: Sequence[BlockKey]) -> Plan:
        context = Placeable(blocks, self._bounds)
        lead: list[BlockKey] = []
        if self._has_history:
            lead = self._online.lead(context, prefix, self._bounds, self._head)
        return self._online.finish(blocks, context.order([*prefix, *lead]), self._head)

    def _live_first(
        self, group: _Group, node: int, prefix: Sequence[BlockKey], new: list[BlockKey]
    ) -> list[BlockKey]:
        """Return the newly shared blocks of a node; those live come first if that pays."""
        if not self._has_history:
            return new
        index, start = self._online.index, [*self._head.keys, *prefix]
        live = index.longest_prefix({key: group.weights[key] for key in new}, start)
        given = new[: max(0, index.match([*start, *new]) - len(start))]
        ordered = list(dict.fromkeys([*live, *new]))
        gain = sum(group.weights[key] for key in live) - sum(group.weights[key] for key in given)
        leaf = group.tree.some_leaf(node)
        passed = (len(new) - 1) / max(1, len(self._contexts[group.waiting[leaf]]) - 1)
        places = {key: place for place, key in enumerate(new)}
        moved = displacement([places[key] for key in ordered]) * passed
        cost = self._bounds.displacement_cost * moved * group.tree.size(node)
        return ordered if gain > cost else new


class _Group(NamedTuple):
    """Contexts with the same pinned blocks: those planned alone, and the tree of the waiting."""

    pinned: tuple[BlockKey, ...]
    alone: list[int]
    waiting: list[int]
    tree: MergeTree
    weights: dict[BlockKey, int]
    """Of every block, in order of its number in the tree."""
    orders: list[Ints]
    """Of the waiting: the numbers of their free blocks, most relevant first."""


def _from(progress: Progress | None, before: int, total: int) -> Progress | None:
    """Return a callback for a part of a batch, of which so many contexts are done before it."""
    if progress is None:
        return None
    return lambda done, _: progress(before + done, total)


def _number_blocks(
    contexts: Sequence[Sequence[Block]], pinned: set[BlockKey], bounds: Bounds
) -> tuple[list[Ints], dict[BlockKey, int]]:
    """Return the free blocks of each context as numbers, and weights in order of number."""
    numbers = _Numbers()
    weights: dict[BlockKey, int] = {}
    orders = []
    for context in contexts:
        own = weights_of(context)
        for key in (*pinned, *bounds.unshared(own, pinned)):
            own.pop(key, None)
        orders.append(np.array([*map(numbers.__getitem__, own)], np.int64))
        if len(weights) < len(numbers):
            for key, weight in own.items():
                weights.setdefault(key, weight)
    return orders, weights


class _Numbers(dict[BlockKey, int]):
    """Blocks are numbered in the order in which they are first asked for."""

    def __missing__(self, key: BlockKey) -> int:
        number = self[key] = len(self)
        return number

"""The nodes of the context index: runs of blocks, the search for the heaviest path, their end."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from contextpilot.block import BlockKey

_MIN_SPENT = 256
"""Spent entries that the queue of leaves may always hold."""
_AT_ONCE = 2_000
"""Nodes or entries that are freed in a millisecond or two; more are freed on a thread."""


class Node:
    """A run of blocks.

    Attributes:
        used: logical time of the last insert or touch.
        anchors: how many hold the path that ends here, and not one beyond.
        left: what is left of the path of a node that is gone.
        told: prompt tokens that an engine said to hold of the path that ends here.
        stops: after how many of its blocks a prompt can be reused, and by how many requests' word;
            None: after each.
    """

    __slots__ = ("anchors", "children", "keys", "left", "parent", "queued", "stops", "told", "used")

    def __init__(self, parent: Node | None, keys: tuple[BlockKey, ...], used: int) -> None:
        self.parent = parent
        self.keys = keys
        self.children: dict[BlockKey, Node] = {}
        self.used = used
        self.queued = False
        self.anchors = 0
        self.left: Node | None = None
        self.told: int | None = None
        self.stops: dict[int, int] | None = None

    def live(self, covered: int) -> int:
        """Return how many of the first `covered` blocks can be reused; 0 if none."""
        if self.stops is None:
            return covered
        return max((stop for stop in self.stops if stop <= covered), default=0)

    def count_stop(self, stop: int, by: int) -> None:
        """Note that one request more, or one less (-1), says that it can be reused there."""
        if self.stops is not None:
            count = self.stops.pop(stop, 0) + by
            if count > 0:
                self.stops[stop] = count


class Leaves:
    """The leaves of a tree, the least recently used first; spent entries go when they are met.

    Attributes:
        entries: a heap of when a leaf was used, a number that no two share, and the leaf.
    """

    def __init__(self) -> None:
        self.entries: list[tuple[int, int, Node]] = []
        self._ticket = 0

    def add(self, leaf: Node, num_nodes: int) -> None:
        """Add a node that became a leaf, of a tree of so many nodes."""
        if leaf.queued or leaf.parent is None:
            return
        leaf.queued = True
        self._ticket += 1
        heapq.heappush(self.entries, (leaf.used, self._ticket, leaf))
        if len(self.entries) > 2 * num_nodes + _MIN_SPENT:
            self._compact()

    def oldest(self) -> int | None:
        """Return when the least recently used leaf was used; None when there is no leaf."""
        while self.entries:
            used, _, leaf = self.entries[0]
            is_leaf = leaf.parent is not None and not leaf.children
            if is_leaf and leaf.used == used:
                return used
            self._ticket += 1
            if is_leaf:
                heapq.heapreplace(self.entries, (leaf.used, self._ticket, leaf))
            else:
                heapq.heappop(self.entries)
                leaf.queued = False
        return None

    def nodes(self) -> list[Node]:
        """Return the leaves."""
        found = (entry[2] for entry in self.entries)
        return [node for node in found if node.parent is not None and not node.children]

    def pop(self) -> Node:
        """Take the leaf of which `oldest` told."""
        leaf = heapq.heappop(self.entries)[2]
        leaf.queued = False
        return leaf

    def _compact(self) -> None:
        """Drop the entries of nodes that are gone or are no leaves any more."""
        kept = []
        for entry in self.entries:
            leaf = entry[2]
            leaf.queued = leaf.parent is not None and not leaf.children
            if leaf.queued:
                kept.append(entry)
        heapq.heapify(kept)
        self.entries = kept


def common_head(run: Sequence[BlockKey], keys: Sequence[BlockKey], start: int) -> int:
    """Return the length of the common head of `run` and `keys[start:]`."""
    n = min(len(run), len(keys) - start)
    for i in range(n):
        if run[i] != keys[start + i]:
            return i
    return n


def heaviest_path(
    start: Node,
    skip: int,
    weights: Mapping[BlockKey, int],
    max_visits: int,
    sent_worth: float = 0.0,
) -> list[BlockKey]:
    """Search depth first, along paths within `weights` only, for the heaviest path.

    Args:
        skip: blocks of the first node's run that stand before the path.
        sent_worth: what a block counts that stands behind the last place where the path can be
            reused, in parts of its weight; 0: the path ends there.
    """
    left, path = set(weights), list[BlockKey]()
    best, best_weight, best_used = list[BlockKey](), 0.0, -1
    stack = [(start, skip, 0, 0, 0)]
    while stack:
        node, skip, depth, weight, num_live = stack.pop()
        if len(path) > depth:
            left.update(path[depth:])
            del path[depth:]
        keys, before = node.keys, skip - depth
        while skip < len(keys) and keys[skip] in left:
            key = keys[skip]
            left.discard(key)
            path.append(key)
            weight += weights[key]
            skip += 1
        reach, gain = len(path), float(weight)
        if node.stops is not None:
            num_live = max(num_live, node.live(skip) - before if node.live(skip) else 0)
            gain -= (1 - sent_worth) * sum([weights[key] for key in path[num_live:]])
            reach = reach if sent_worth else num_live
        if gain > best_weight or (gain == best_weight and node.used > best_used and reach):
            best, best_weight, best_used = path[:reach], gain, node.used
        children = node.children
        if skip < len(keys) or not left or not children:
            continue
        if len(children) <= len(left):
            found = [key for key in children if key in left]
        else:  # iterate in the caller's order: a set's order differs between processes
            found = [key for key in weights if key in children and key in left]
        del found[max_visits:]
        max_visits -= len(found)
        depth = len(path)
        for key in reversed(found):
            child = children[key]
            run = child.keys
            goes_on = run[1] in left if len(run) > 1 else not child.children.keys().isdisjoint(left)
            if goes_on or child.stops is not None:
                stack.append((child, 0, depth, weight, num_live))
                continue
            total = weight + weights[key]  # the path ends here
            if total > best_weight or (total == best_weight and child.used > best_used):
                best, best_weight, best_used = [*path, key], total, child.used
    return best


def release(root: Any, *piles: Any) -> None:
    """Free a detached tree, and lists and dictionaries that nobody else uses any more.

    A million nodes let go at once stop every thread for seconds, so what is large is taken apart
    piece by piece, on a thread. A tree's nodes have `children`, a dictionary, and perhaps `parent`.
    """
    stack = [root]
    if not _take_apart(stack, piles, _AT_ONCE):
        arguments = (stack, piles, None)
        thread = threading.Thread(
            target=_take_apart, args=arguments, name="contextpilot-release", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the interpreter is ending, and all goes with it
            return


def _take_apart(stack: list[Any], piles: Sequence[Any], most: int | None) -> bool:
    """Take apart up to so many pieces, all for None; return whether nothing is left."""
    taken = 0
    for pile in piles:  # first: they may hold nodes, too
        while pile:
            if taken == most:
                return False
            taken += 1
            pile.pop() if isinstance(pile, list) else pile.popitem()
    while stack:
        children = stack[-1].children
        if not children:
            node = stack.pop()
            if hasattr(node, "parent"):
                node.parent = None
            continue
        if taken == most:
            return False
        taken += 1
        with suppress(KeyError):  # another thread took the last
            stack.append(children.popitem()[1])
    return True

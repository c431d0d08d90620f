"""Which engines hold a prompt's beginning: one look-up for all of them.

Per namespace there is one tree over all engines, whose nodes carry a bit for each index that holds
them. The indexes tell of every change, so it is as exact as they are.

    root ── (a, b) {0, 1} ──┬── (c) {0}
                            └── (d, e) {1}
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter

from contextpilot.block import BlockKey
from contextpilot.paths import Watch
from contextpilot.plan.online import Head
from contextpilot.radix import common_head, release

_MAX_EXPANDED = 32
"""Nodes whose children one look-up visits, the heaviest first; a tenth of a millisecond."""
_SWEPT_AT_ONCE = 32
"""Nodes that are freed of the bits of emptied indexes with every change."""


class _Node:
    __slots__ = ("children", "keys", "mask")

    def __init__(self, keys: tuple[BlockKey, ...], mask: int) -> None:
        self.keys = keys
        self.mask = mask
        self.children: dict[BlockKey, _Node] = {}


class EnginePrefixTree:
    """The paths of one namespace, and which indexes hold them. Its owner holds the lock.

    A node's bits are among those of its parent. Each life of an index, from its first path until it
    is emptied, has a bit of its own, so that emptying takes no time; later changes sweep the old
    bits away, and then they are used again.
    """

    def __init__(self) -> None:
        self._root = _Node((), 0)
        self._bits: dict[str, int] = {}
        self._names: list[str] = []
        self._live = 0
        self._dead = 0
        self._free: list[int] = []
        self._sweep: list[tuple[_Node, list[BlockKey]]] = []
        self._swept = 0

    @property
    def root(self) -> _Node:
        """The tree itself, to be read."""
        return self._root

    @property
    def is_empty(self) -> bool:
        """Return whether no index holds anything."""
        return not self._live

    def grow(self, engine: str, keys: Sequence[BlockKey]) -> None:
        """Note that an index holds a path."""
        bit = self._bit(engine)
        node, before = self._root, 0
        while before < len(keys):
            child = node.children.get(keys[before])
            if child is None:
                node.children[keys[before]] = _Node(tuple(keys[before:]), bit)
                break
            shared = common_head(child.keys, keys, before)
            if shared < len(child.keys):
                child = self._split(node, child, shared)
            child.mask |= bit
            before += shared
            node = child
        self._sweep_some()

    def cut(self, engine: str, keys: Sequence[BlockKey]) -> None:
        """Note that an index dropped a path's last block, and all that followed it."""
        bit = self._bits.get(engine, 0)
        node, before, last = self._root, 0, len(keys) - 1
        while before <= last:
            child = node.children.get(keys[before])
            if child is None or not child.mask & bit:
                return
            shared = common_head(child.keys, keys, before)
            if before + shared > last:
                if before < last:
                    node = self._split(node, child, last - before)
                self._drop(node, child, bit)
                break
            if shared < len(child.keys):
                return
            before += shared
            node = child
        self._sweep_some()

    def empty(self, engine: str) -> None:
        """Note that an index holds nothing any more."""
        bit = self._bits.pop(engine, 0)
        self._live &= ~bit
        self._dead |= bit
        if not self._live:
            root, self._root = self._root, _Node((), 0)
            self._sweep.clear()
            self._free, self._dead = list(range(len(self._names))), 0
            release(root)

    def live_tokens(self, head: Head, weights: Mapping[BlockKey, int]) -> dict[str, int]:
        """Return for each index how many tokens of a request it holds, in its best order.

        Args:
            weights: tokens of the request's blocks, which may stand in any order after the head.

        Returns:
            Nothing for indexes that hold none. Never more than there is; less where the tree
            branches so often that not all of it can be looked at.
        """
        best: dict[int, int] = {}
        place = self._follow_head(head, best)
        if place is not None:
            self._search(*place, head.tokens, weights, best)
        best.pop(0, None)
        held: dict[str, int] = {}
        left, names = self._live, self._names
        for mask, tokens in sorted(best.items(), key=itemgetter(1), reverse=True):
            new = mask & left
            left ^= new
            while new:
                bit = new & -new
                new ^= bit
                held[names[bit.bit_length() - 1]] = tokens
            if not left:
                break
        return held

    # -- looking ---------------------------------------------------------------------------------

    def _follow_head(self, head: Head, best: dict[int, int]) -> tuple[_Node, int] | None:
        """Return the node in which a head ends, and how many blocks of its run the head covers.

        Args:
            best: by bits, is given the tokens that their indexes hold at least.
        """
        node, before, covered = self._root, 0, 0
        keys = head.keys
        while before < len(keys):
            child = node.children.get(keys[before])
            if child is None:
                return None
            covered = common_head(child.keys, keys, before)
            before += covered
            best[child.mask] = head.tokens * before // len(keys)
            if covered < len(child.keys) and before < len(keys):
                return None
            node = child
        return node, covered

    def _search(
        self,
        start: _Node,
        covered: int,
        base: int,
        weights: Mapping[BlockKey, int],
        best: dict[int, int],
    ) -> None:
        """Follow paths within `weights`, the heaviest beginnings first."""
        live, places = self._live, {key: 1 << at for at, key in enumerate(weights)}
        weight, used, is_whole = _follow(start.keys[covered:], 0, places, weights)
        best[start.mask] = base + weight
        heap = [(-base - weight, used, 0, start)] if is_whole else []
        ticket = 0  # nodes have no order
        for _ in range(_MAX_EXPANDED):
            if not heap:
                return
            lighter, taken, _, node = heapq.heappop(heap)
            children = node.children
            for key in children.keys() & places.keys():
                child = children[key]
                mask, run, used = child.mask, child.keys, taken | places[key]
                if used == taken or not mask & live:
                    continue
                weight, is_whole = weights[key] - lighter, True
                if len(run) > 1:
                    more, used, is_whole = _follow(run[1:], used, places, weights)
                    weight += more
                if best.get(mask, 0) < weight:
                    best[mask] = weight
                if is_whole and child.children:
                    ticket += 1
                    heapq.heappush(heap, (-weight, used, ticket, child))

    # -- bits ------------------------------------------------------------------------------------

    def _bit(self, engine: str) -> int:
        bit = self._bits.get(engine)
        if bit is None:
            if self._free:
                at = self._free.pop()
                self._names[at] = engine
            else:
                at = len(self._names)
                self._names.append(engine)
            bit = self._bits[engine] = 1 << at
            self._live |= bit
        return bit

    def _split(self, parent: _Node, node: _Node, at: int) -> _Node:
        """Split a node's run after `at` blocks; return the new upper node."""
        node.mask &= self._live  # what is swept next is found below only
        upper = _Node(node.keys[:at], node.mask)
        parent.children[upper.keys[0]] = upper
        node.keys = node.keys[at:]
        upper.children[node.keys[0]] = node
        return upper

    def _drop(self, parent: _Node, node: _Node, bits: int) -> None:
        """Take bits from a node and all below it; what nobody holds any more goes."""
        stack = [(parent, node)]
        while stack:
            parent, node = stack.pop()
            node.mask &= ~bits
            if not node.mask & self._live:
                del parent.children[node.keys[0]]
                release(node)
                continue
            stack += [(node, child) for child in node.children.values() if child.mask & bits]

    def _sweep_some(self) -> None:
        """Go on taking away the bits of emptied indexes; once they are, they are free again."""
        if not self._sweep:
            if not self._dead:
                return
            self._swept = self._dead
            self._sweep = [(self._root, list(self._root.children))]
        for _ in range(_SWEPT_AT_ONCE):
            node, keys = self._sweep[-1]
            child = node.children.get(keys.pop()) if keys else None
            if child is not None:
                child.mask &= self._live
                if child.mask:
                    self._sweep.append((child, list(child.children)))
                else:
                    del node.children[child.keys[0]]
                    release(child)
            elif not keys:
                self._sweep.pop()
            if not self._sweep:
                self._dead &= ~self._swept
                self._free += _places(self._swept)
                return


def _follow(
    run: Sequence[BlockKey],
    used: int,
    places: Mapping[BlockKey, int],
    weights: Mapping[BlockKey, int],
) -> tuple[int, int, bool]:
    """Return what a run weighs as far as it goes, the bits of blocks used then, and if it does."""
    weight = 0
    for key in run:
        place = places.get(key, 0)
        if not place & ~used:
            return weight, used, False
        used |= place
        weight += weights[key]
    return weight, used, True


def _places(bits: int) -> Iterator[int]:
    """Yield the places of the bits that are set."""
    while bits:
        bit = bits & -bits
        bits ^= bit
        yield bit.bit_length() - 1


class EnginesByPrefix:
    """The trees of all namespaces of a pool. Thread-safe; takes its lock last."""

    def __init__(self) -> None:
        self._trees: dict[str, EnginePrefixTree] = {}
        self._lock = threading.Lock()

    def watcher(self, engine: str) -> Callable[[str], Watch]:
        """Return what makes the watch of an index: of one namespace, of this engine."""
        return lambda name: _Watch(self, name, engine)

    def live_tokens(self, name: str, head: Head, weights: Mapping[BlockKey, int]) -> dict[str, int]:
        """Return for each engine that holds a beginning of a request how many tokens of it."""
        with self._lock:
            tree = self._trees.get(name)
            return tree.live_tokens(head, weights) if tree is not None else {}

    def tree(self, name: str) -> EnginePrefixTree | None:
        """Return a namespace's tree; None when nobody holds anything of it."""
        return self._trees.get(name)

    def __len__(self) -> int:
        return len(self._trees)

    def change(self, name: str, engine: str, keys: Sequence[BlockKey], *, grown: bool) -> None:
        """Note a change of an engine's part of a namespace."""
        with self._lock:
            if grown:
                self._trees.setdefault(name, EnginePrefixTree()).grow(engine, keys)
            elif name in self._trees:
                self._trees[name].cut(engine, keys)

    def empty(self, name: str, engine: str) -> None:
        """Note that an engine holds nothing of a namespace any more."""
        with self._lock:
            tree = self._trees.get(name)
            if tree is not None:
                tree.empty(engine)
                if tree.is_empty:
                    del self._trees[name]


class _Watch:
    def __init__(self, engines: EnginesByPrefix, name: str, engine: str) -> None:
        self._engines = engines
        self._name = name
        self._engine = engine

    def grown(self, keys: Sequence[BlockKey]) -> None:
        self._engines.change(self._name, self._engine, keys, grown=True)

    def cut(self, keys: Sequence[BlockKey]) -> None:
        self._engines.change(self._name, self._engine, keys, grown=False)

    def emptied(self) -> None:
        self._engines.empty(self._name, self._engine)

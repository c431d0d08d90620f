"""A prefix tree of blocks, bounded, in which somebody may hold on to paths.

Edges carry runs of blocks (a radix tree), so a context that shares nothing costs one node. The
least recently used leaves go first, as in the engines. An anchor says that somebody holds the path
that ends with a node; when the last one goes, so does what nobody else holds.

    root ── (a, b) ──┬── (c)        anchors: one at (c), one at (d, e)
                     └── (d, e)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count, islice
from typing import Any, Protocol

from contextpilot.block import BlockKey
from contextpilot.radix import Leaves, Node, common_head, heaviest_path, release

_MAX_DROPPED = 65_536
_MAX_NOTED = 4_096
"""Blocks of an emptied tree that are noted as dropped: all of a small one, in a millisecond."""


class Watch(Protocol):
    """Is told of every change of a tree, by whoever holds its lock."""

    def grown(self, keys: Sequence[BlockKey]) -> None:
        """Note that the tree holds a path."""

    def cut(self, keys: Sequence[BlockKey]) -> None:
        """Note that a path's last block is gone, with all that followed it."""

    def emptied(self) -> None:
        """Note that the tree holds nothing."""


class PathTree:
    """Paths of blocks. Not thread-safe: its owner holds the lock.

    Args:
        max_blocks: bound on blocks in the tree.
        max_visits: nodes that one search may look at; beyond it the best found so far counts.
        tick: returns the next logical time; shared by trees whose leaves are to be compared.

    Attributes:
        granule: tokens that the engine's cache holds together: all of them, or none.
        dropped: tokens at the end of what is reused that the engine computes anew.
        is_sparse: the engine can reuse a path only where it said so, at the stops of its nodes.
    """

    def __init__(
        self, max_blocks: int, max_visits: int, tick: Callable[[], int] | None = None
    ) -> None:
        if max_blocks < 1 or max_visits < 1:
            raise ValueError("max_blocks and max_visits must be at least 1")
        self._max_blocks = max_blocks
        self._max_visits = max_visits
        self._tick = tick or count(1).__next__
        self.watch: Watch | None = None
        self.granule = 1
        self.dropped = 0
        self.is_sparse = False
        self._num_evicted = 0
        self._clock = 0
        self._dropped: OrderedDict[BlockKey, None] = OrderedDict()
        self._plant()

    def _plant(self) -> None:
        self._root = Node(None, (), 0)
        self._num_blocks = 0
        self._num_nodes = 0
        self._leaves = Leaves()

    def empty(self) -> None:
        """Forget all paths, at once however many they are; the memory is freed on a thread."""
        self._note_all_dropped()
        self._uproot()

    def tell(self, watch: Watch) -> None:
        """Tell `watch` all that the tree holds, and every change from now on."""
        self.watch = watch
        stack = list(self._root.children.values())
        while stack:
            node = stack.pop()
            stack.extend(node.children.values())
            if not node.children:
                watch.grown(self._path(node))

    def _note_all_dropped(self) -> None:
        noted = 0
        stack = list(islice(self._root.children.values(), _MAX_NOTED))
        while stack and noted < _MAX_NOTED:
            node = stack.pop()
            self._note_dropped(node.keys)
            noted += len(node.keys)
            stack.extend(islice(node.children.values(), _MAX_NOTED))

    def _uproot(self, *piles: Any) -> None:
        root, leaves = self._root, self._leaves
        self._plant()
        release(root, leaves.entries, *piles)
        if self.watch is not None:
            self.watch.emptied()

    @property
    def root(self) -> Node:
        """The tree itself, to be read; without the lock, changes may be seen half done."""
        return self._root

    def was_dropped(self, key: BlockKey) -> bool:
        """Return whether this block was dropped lately and not inserted since."""
        return key in self._dropped

    @property
    def num_dropped(self) -> int:
        """Blocks noted as dropped lately."""
        return len(self._dropped)

    def shed_dropped(self, count: int) -> None:
        """Forget so many of the blocks noted as dropped, the oldest first."""
        for _ in range(min(count, len(self._dropped))):
            self._dropped.popitem(last=False)

    # -- reading ---------------------------------------------------------------------------------

    @property
    def num_blocks(self) -> int:
        """Blocks in the tree."""
        return self._num_blocks

    def match(self, keys: Sequence[BlockKey]) -> int:
        """Return how many leading blocks of `keys`, in this order, can be reused."""
        matched = 0
        for node, common, before in self._along(keys):
            if node.stops is None:
                matched = before + common
            elif stop := node.live(common):
                matched = before + stop
        return matched

    def num_known(self, keys: Sequence[BlockKey]) -> int:
        """Return how many leading blocks of `keys` are in the tree, reusable or not."""
        known = 0
        for _, common, before in self._along(keys):
            known = before + common
        return known

    def children(self, keys: Sequence[BlockKey]) -> list[BlockKey]:
        """Return the blocks that follow `keys` in the tree (empty when `keys` is not in it)."""
        node, covered = self._descend(keys)
        if node is None:
            return []
        return [node.keys[covered]] if covered < len(node.keys) else list(node.children)

    def longest_prefix(
        self,
        weights: Mapping[BlockKey, int],
        start: Sequence[BlockKey] = (),
        sent_worth: float = 0.0,
    ) -> list[BlockKey]:
        """Return the heaviest path of the tree whose blocks are all keys of `weights`.

        The path begins after `start`, itself a path of the tree (else nothing is found). Of paths
        of equal weight the most recently used wins. It ends where it can be reused, unless what was
        only sent is worth something, too: `sent_worth` parts of its weight.
        """
        node, skip = self._descend(start)
        if node is None or not weights:
            return []
        return heaviest_path(node, skip, weights, self._max_visits, sent_worth)

    def _along(self, keys: Sequence[BlockKey]) -> Iterator[tuple[Node, int, int]]:
        """Yield the nodes along a path: node, how many of its blocks match, blocks before it."""
        node, before = self._root, 0
        while before < len(keys):
            child = node.children.get(keys[before])
            if child is None:
                return
            shared = common_head(child.keys, keys, before)
            whole = shared == len(child.keys)  # the caller may split the node meanwhile
            yield child, shared, before
            if not whole:
                return
            before += shared
            node = child

    def _descend(self, keys: Sequence[BlockKey]) -> tuple[Node | None, int]:
        """Return the node in which the path `keys` ends, and how many of its blocks it covers."""
        node, covered, matched = self._root, 0, 0
        for child, common, before in self._along(keys):
            node, covered, matched = child, common, before + common
        return (node, covered) if matched == len(keys) else (None, 0)

    def held_tokens(self, keys: Sequence[BlockKey], tokens: int) -> int:
        """Return how many of a live path's tokens an engine reuses of its cache: whole granules,
        and no more than an engine said to hold where the path ends in the tree."""
        node, covered = self._descend(keys)
        if node is not None and covered == len(node.keys) and not node.children:
            tokens = tokens if node.told is None else min(tokens, node.told)
        return max(0, tokens // self.granule * self.granule - self.dropped)

    # -- writing ---------------------------------------------------------------------------------

    def describe(self, granule: int, dropped: int = 0, is_sparse: bool = False) -> None:
        """Learn what the engine's cache is like; see the attributes.

        Of several engines one that is sparse decides for all, while the tree holds anything.
        """
        self.granule, self.dropped = granule, dropped
        if is_sparse and not self.is_sparse:  # nobody said yet where any path can be reused
            stack = [self._root]
            while stack:
                node = stack.pop()
                node.stops = {}
                stack.extend(node.children.values())
        self.is_sparse = is_sparse or (self.is_sparse and self._num_blocks > 0)

    def _count_stops(self, keys: Sequence[BlockKey], stops: Sequence[int], by: int) -> None:
        """Note who says (1), or says no more (-1), that `keys` can be reused after `stops`."""
        for node, common, before in self._along(keys) if stops else ():
            for stop in stops:
                if before < stop <= before + common:
                    node.count_stop(stop - before, by)

    def cut(self, keys: Sequence[BlockKey], keep: int) -> int:
        """Drop what follows the first `keep` blocks along the path `keys`; return how many.

        Who held more of it holds `keep` blocks then.
        """
        for node, common, before in self._along(keys):
            if before + common > keep:
                return self._cut_node(node, keep - before)
        return 0

    def _extend(self, keys: tuple[BlockKey, ...]) -> tuple[Node, int]:
        """Add a path; return the node that it ends with, and how many blocks were there before."""
        self._clock = self._tick()
        node, found = self._root, 0
        for child, common, before in self._along(keys):
            node = self._split(child, common) if common < len(child.keys) else child
            node.used = self._clock
            found = before + common
        if found < len(keys):
            node = self._append(node, keys[found:])
            if self.watch is not None:
                self.watch.grown(keys)
        if not node.children:
            self._leaves.add(node, self._num_nodes)
        return node, found

    def _node_at(self, keys: tuple[BlockKey, ...]) -> Node | None:
        """Return the node that a path of the tree ends with; None when it is no path."""
        if self.num_known(keys) < len(keys):
            return None
        return self._extend(keys)[0]

    def _prune(self, node: Node) -> int:
        """Drop a path from its end up to what is held; return the blocks dropped."""
        dropped = 0
        while (parent := node.parent) is not None and not node.anchors and not node.children:
            dropped += self._cut_node(node, 0)
            node = parent
        return dropped

    def _cut_node(self, node: Node, keep: int) -> int:
        parent = node.parent
        assert parent is not None
        if self.watch is not None:
            self.watch.cut((*self._path(parent), *node.keys[: max(0, keep) + 1]))
        if keep <= 0:
            del parent.children[node.keys[0]]
            dropped = self._discard([node], parent)
            if parent is not self._root and not parent.children:
                self._leaves.add(parent, self._num_nodes)
            return dropped
        dropped = self._discard(node.children.values(), node) + len(node.keys) - keep
        self._note_dropped(node.keys[keep:])
        self._num_blocks -= len(node.keys) - keep
        node.keys = node.keys[:keep]
        if node.stops is not None:
            node.stops = {stop: count for stop, count in node.stops.items() if stop <= keep}
        node.children = {}
        node.told = None
        self._leaves.add(node, self._num_nodes)
        return dropped

    def _discard(self, nodes: Iterable[Node], left: Node) -> int:
        """Drop nodes and all below them; who held them holds `left`."""
        stack, dropped = list(nodes), 0
        while stack:
            node = stack.pop()
            stack.extend(node.children.values())
            dropped += len(node.keys)
            self._note_dropped(node.keys)
            left.anchors += node.anchors
            node.children = {}
            node.parent, node.left = None, left
            self._num_nodes -= 1
        self._num_blocks -= dropped
        return dropped

    def _note_dropped(self, keys: Iterable[BlockKey]) -> None:
        for key in keys:
            self._dropped[key] = None
        while len(self._dropped) > _MAX_DROPPED:
            self._dropped.popitem(last=False)

    def _append(self, parent: Node, keys: tuple[BlockKey, ...]) -> Node:
        node = Node(parent, keys, self._clock)
        if self.is_sparse:
            node.stops = {}
        parent.children[keys[0]] = node
        self._num_nodes += 1
        self._num_blocks += len(keys)
        if self._dropped:
            for key in keys:
                self._dropped.pop(key, None)
        return node

    def _split(self, node: Node, at: int) -> Node:
        """Split a node's run after `at` blocks; return the new upper node."""
        parent = node.parent
        assert parent is not None
        upper = Node(parent, node.keys[:at], node.used)
        if node.stops is not None:
            upper.stops = {stop: count for stop, count in node.stops.items() if stop <= at}
            node.stops = {stop - at: count for stop, count in node.stops.items() if stop > at}
        parent.children[upper.keys[0]] = upper
        node.keys = node.keys[at:]
        node.parent = upper
        upper.children[node.keys[0]] = node
        self._num_nodes += 1
        return upper

    @staticmethod
    def _path(node: Node) -> list[BlockKey]:
        """Return the keys from the root to a node's end."""
        runs = []
        above: Node | None = node
        while above is not None:
            runs.append(above.keys)
            above = above.parent
        return [key for run in reversed(runs) for key in run]

    # -- bounds ----------------------------------------------------------------------------------

    def oldest(self) -> int | None:
        """Return when the least recently used leaf was used; None when the tree holds nothing."""
        return self._leaves.oldest()

    def shed(self, num_blocks: int) -> int:
        """Drop that many blocks or some more, the least recently used leaves first.

        Of the newest path only as much goes as must.

        Returns:
            The blocks dropped.
        """
        goal, before = max(0, self._num_blocks - num_blocks), self._num_blocks
        while self._num_blocks > goal and (used := self.oldest()) is not None:
            leaf = self._leaves.pop()
            newest = used == self._clock
            keep = len(leaf.keys) - (self._num_blocks - goal) if newest else 0
            self._cut_node(leaf, keep)
        self._num_evicted += before - self._num_blocks
        return before - self._num_blocks

    def _evict(self) -> None:
        if self._num_blocks > self._max_blocks:
            self.shed(self._num_blocks - self._max_blocks)

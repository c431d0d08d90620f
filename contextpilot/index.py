"""The context index: a prefix tree of blocks that holds what an engine's cache is believed to hold.

Edges carry runs of blocks (a radix tree), so a context that shares nothing costs one node. Memory
is bounded in blocks; the least recently used leaves go first, as in the engines.

    root ── (a, b) ──┬── (c)        requests: r1 -> (a, b, c), r2 -> (a, b, d, e)
                     └── (d, e)
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count, islice
from typing import NamedTuple, Protocol

from contextpilot.block import BlockKey
from contextpilot.radix import Leaves, Node, common_head, heaviest_path, release

_MAX_DROPPED = 65_536
_MAX_NOTED = 4_096
"""Blocks of an emptied tree that are noted as dropped: all of a small one, in a millisecond."""


class IndexStats(NamedTuple):
    """Sizes of an index: blocks and nodes in the tree, requests that it can name."""

    num_blocks: int
    num_nodes: int
    num_requests: int
    num_evicted_blocks: int


class _Request(NamedTuple):
    """A named path; `ends` and `total` are estimates until the engine counts the prompt."""

    keys: tuple[BlockKey, ...]
    ends: tuple[int, ...]
    total: int


class Watch(Protocol):
    """Is told of every change of a tree, by whoever holds its lock."""

    def grown(self, keys: Sequence[BlockKey]) -> None:
        """Note that the tree holds a path."""

    def cut(self, keys: Sequence[BlockKey]) -> None:
        """Note that a path's last block is gone, with all that followed it."""

    def emptied(self) -> None:
        """Note that the tree holds nothing."""


class ContextIndex:
    """Prefix tree of blocks with request names. Not thread-safe: its owner holds the lock.

    Args:
        max_blocks: bound on blocks in the tree (and on the blocks that requests name).
        max_visits: nodes that one search may look at; beyond it the best found so far counts.
        tick: returns the next logical time; shared by indexes whose leaves are to be compared.
    """

    def __init__(
        self,
        max_blocks: int = 2_000_000,
        max_visits: int = 1_000,
        tick: Callable[[], int] | None = None,
    ) -> None:
        if max_blocks < 1 or max_visits < 1:
            raise ValueError("max_blocks and max_visits must be at least 1")
        self._max_blocks = max_blocks
        self._max_visits = max_visits
        self._tick = tick or count(1).__next__
        self.watch: Watch | None = None
        self._num_evicted = 0
        self._clock = 0
        self._start()

    def _start(self) -> None:
        self._root = Node(None, (), 0)
        self._num_blocks = 0
        self._num_nodes = 0
        self._num_request_blocks = 0
        self._requests: OrderedDict[str, _Request] = OrderedDict()
        self._leaves = Leaves()
        self._dropped: OrderedDict[BlockKey, None] = OrderedDict()

    def clear(self) -> None:
        """Forget everything, at once however much it is; the memory is freed on a thread."""
        root, piles = self._root, (self._leaves.entries, self._requests, self._dropped)
        self._start()
        release(root, *piles)
        if self.watch is not None:
            self.watch.emptied()

    def empty(self) -> None:
        """Forget what the cache held, as fast as `clear`; the names of requests stay."""
        noted = 0
        stack = list(islice(self._root.children.values(), _MAX_NOTED))
        while stack and noted < _MAX_NOTED:
            node = stack.pop()
            self._note_dropped(node.keys)
            noted += len(node.keys)
            stack.extend(islice(node.children.values(), _MAX_NOTED))
        root, leaves = self._root, self._leaves
        requests, named, dropped = self._requests, self._num_request_blocks, self._dropped
        self._start()
        self._requests, self._num_request_blocks, self._dropped = requests, named, dropped
        release(root, leaves.entries)
        if self.watch is not None:
            self.watch.emptied()

    def stats(self) -> IndexStats:
        """Return the current sizes."""
        return IndexStats(self._num_blocks, self._num_nodes, len(self._requests), self._num_evicted)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._requests

    def requests(self) -> list[str]:
        """Return the names of the requests that the index knows, oldest first."""
        return list(self._requests)

    @property
    def root(self) -> Node:
        """The tree itself, to be read; without the lock, changes may be seen half done."""
        return self._root

    @property
    def num_named_blocks(self) -> int:
        """Blocks in the paths that requests name, and one for each request."""
        return self._num_request_blocks

    def was_dropped(self, key: BlockKey) -> bool:
        """Return whether this block was dropped lately and not inserted since."""
        return key in self._dropped

    # -- reading ---------------------------------------------------------------------------------

    def match(self, keys: Sequence[BlockKey]) -> int:
        """Return how many leading blocks of `keys`, in this order, are in the tree."""
        matched = 0
        for _, common, before in self._along(keys):
            matched = before + common
        return matched

    def children(self, keys: Sequence[BlockKey]) -> list[BlockKey]:
        """Return the blocks that follow `keys` in the tree (empty when `keys` is not in it)."""
        node, covered = self._descend(keys)
        if node is None:
            return []
        return [node.keys[covered]] if covered < len(node.keys) else list(node.children)

    def longest_prefix(
        self, weights: Mapping[BlockKey, int], start: Sequence[BlockKey] = ()
    ) -> list[BlockKey]:
        """Return the heaviest path of the tree whose blocks are all keys of `weights`.

        The path begins after `start`, itself a path of the tree (else nothing is found). Of paths
        of equal weight the most recently used wins.
        """
        node, skip = self._descend(start)
        if node is None or not weights:
            return []
        return heaviest_path(node, skip, weights, self._max_visits)

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

    def live_tokens(self, request_id: str) -> int | None:
        """Return the prompt tokens of a request that are believed cached; None when unknown."""
        request = self._requests.get(request_id)
        if request is None:
            return None
        matched = self.match(request.keys)
        return request.ends[matched - 1] if matched else 0

    # -- writing ---------------------------------------------------------------------------------

    def insert(
        self,
        keys: Sequence[BlockKey],
        request_id: str | None = None,
        ends: Sequence[int] | None = None,
        total: int | None = None,
    ) -> int:
        """Add a path; return how many of its leading blocks were there before.

        Args:
            keys: the blocks in prompt order.
            request_id: a name under which `truncate` and `forget` find the path.
            ends: for each block the prompt tokens up to its end, non-decreasing; needed to
                translate the engine's token counts. Default: one token a block.
            total: tokens of the whole prompt in the measure of `ends`. Default: the last end.
        """
        if ends is not None and len(ends) != len(keys):
            raise ValueError(f"ends must give one token count per block: {len(ends)}, {len(keys)}")
        self._clock = self._tick()
        node, found = self._root, 0
        for child, common, before in self._along(keys):
            node = self._split(child, common) if common < len(child.keys) else child
            node.used = self._clock
            found = before + common
        if found < len(keys):
            node = self._append(node, tuple(keys[found:]))
            if self.watch is not None:
                self.watch.grown(keys)
        if not node.children:
            self._leaves.add(node, self._num_nodes)
        if request_id is not None:
            given = tuple(range(1, len(keys) + 1) if ends is None else ends)
            whole = total or (given[-1] if given else 0)
            self._name(request_id, _Request(tuple(keys), given, whole))
        self._evict()
        return found

    def truncate(self, request_id: str, tokens: int) -> int:
        """Keep only the first `tokens` prompt tokens of a request; return the blocks dropped.

        What other requests hold beyond that point of the same path goes too: equal prefixes are
        one entry in the engine's cache.
        """
        request = self._requests.get(request_id)
        if request is None:
            return 0
        return self.cut(request.keys, bisect_right(request.ends, tokens))

    def set_cached(self, request_id: str, tokens: int, prompt_tokens: int | None = None) -> bool:
        """Make the tree hold exactly the first `tokens` prompt tokens of a request.

        Args:
            tokens: as the engine counts them; a block is held when all of its tokens are.
            prompt_tokens: the engine's count of the whole prompt, which corrects the estimate.

        Returns:
            False when the request is unknown.
        """
        request = self._requests.get(request_id)
        if request is None:
            return False
        if prompt_tokens and request.total and prompt_tokens != request.total:
            scale = prompt_tokens / request.total
            ends = tuple(round(end * scale) for end in request.ends)
            request = self._requests[request_id] = _Request(request.keys, ends, prompt_tokens)
        keep = bisect_right(request.ends, tokens)
        if keep:
            self.insert(request.keys[:keep])
        self.cut(request.keys, keep)
        return True

    def forget(self, request_id: str) -> int:
        """Drop a request's path from the tree and its name; return the blocks dropped."""
        dropped = self.truncate(request_id, 0)
        self.unname(request_id)
        return dropped

    def cut(self, keys: Sequence[BlockKey], keep: int) -> int:
        """Drop what follows the first `keep` blocks along the path `keys`; return how many."""
        for node, common, before in self._along(keys):
            if before + common > keep:
                return self._cut_node(node, keep - before)
        return 0

    def _cut_node(self, node: Node, keep: int) -> int:
        parent = node.parent
        assert parent is not None
        if self.watch is not None:
            self.watch.cut((*self._path(parent), *node.keys[: max(0, keep) + 1]))
        if keep <= 0:
            del parent.children[node.keys[0]]
            node.parent = None
            dropped = self._discard([node])
            if parent is not self._root and not parent.children:
                self._leaves.add(parent, self._num_nodes)
            return dropped
        dropped = self._discard(node.children.values()) + len(node.keys) - keep
        self._note_dropped(node.keys[keep:])
        self._num_blocks -= len(node.keys) - keep
        node.keys = node.keys[:keep]
        node.children = {}
        self._leaves.add(node, self._num_nodes)
        return dropped

    def _discard(self, nodes: Iterable[Node]) -> int:
        stack, dropped = list(nodes), 0
        while stack:
            node = stack.pop()
            stack.extend(node.children.values())
            dropped += len(node.keys)
            self._note_dropped(node.keys)
            node.children = {}
            node.parent = None
            self._num_nodes -= 1
            self._num_blocks -= len(node.keys)
        return dropped

    def _note_dropped(self, keys: Iterable[BlockKey]) -> None:
        for key in keys:
            self._dropped[key] = None
        while len(self._dropped) > _MAX_DROPPED:
            self._dropped.popitem(last=False)

    def _append(self, parent: Node, keys: tuple[BlockKey, ...]) -> Node:
        node = Node(parent, keys, self._clock)
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

    def _name(self, request_id: str, request: _Request) -> None:
        self.unname(request_id)
        self._requests[request_id] = request
        self._num_request_blocks += len(request.keys) + 1
        while self._num_request_blocks > self._max_blocks and len(self._requests) > 1:
            self.unname(next(iter(self._requests)))

    def unname(self, request_id: str) -> None:
        """Forget a request's name; what the tree holds of it stays."""
        request = self._requests.pop(request_id, None)
        if request is not None:
            self._num_request_blocks -= len(request.keys) + 1

"""The context index: a prefix tree of blocks that holds what an engine's cache is believed to hold.

Edges carry runs of blocks (a radix tree), so a context that shares nothing costs one node. Memory
is bounded in blocks; the least recently used leaves go first, as in the engines.

    root ── (a, b) ──┬── (c)        requests: r1 -> (a, b, c), r2 -> (a, b, d, e)
                     └── (d, e)
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from contextpilot.block import BlockKey

_MAX_DROPPED = 65_536
_MIN_SPENT = 256
"""Spent entries that the queue of leaves may always hold."""


class IndexStats(NamedTuple):
    """Sizes of an index: blocks and nodes in the tree, requests that it can name."""

    num_blocks: int
    num_nodes: int
    num_requests: int
    num_evicted_blocks: int


class _Node:
    """A run of blocks. `used` is the logical time of its last insert or touch."""

    __slots__ = ("children", "keys", "parent", "queued", "used")

    def __init__(self, parent: _Node | None, keys: tuple[BlockKey, ...], used: int) -> None:
        self.parent = parent
        self.keys = keys
        self.children: dict[BlockKey, _Node] = {}
        self.used = used
        self.queued = False


class _Request(NamedTuple):
    """A named path; `ends` and `total` are estimates until the engine counts the prompt."""

    keys: tuple[BlockKey, ...]
    ends: tuple[int, ...]
    total: int


class ContextIndex:
    """Prefix tree of blocks with request names. Not thread-safe: its owner holds the lock.

    Args:
        max_blocks: bound on blocks in the tree (and on the blocks that requests name).
        max_visits: nodes that one search may look at; beyond it the best found so far counts.
    """

    def __init__(self, max_blocks: int = 2_000_000, max_visits: int = 1_000) -> None:
        if max_blocks < 1 or max_visits < 1:
            raise ValueError("max_blocks and max_visits must be at least 1")
        self._max_blocks = max_blocks
        self._max_visits = max_visits
        self._num_evicted = 0
        self._clock = 0
        self._ticket = 0
        self._root = _Node(None, (), 0)
        self.clear()

    def clear(self) -> None:
        """Forget everything: the engine's cache was reset."""
        self._unlink()
        self._root = _Node(None, (), 0)
        self._num_blocks = 0
        self._num_nodes = 0
        self._num_request_blocks = 0
        self._requests: OrderedDict[str, _Request] = OrderedDict()
        self._leaves: list[tuple[int, int, _Node]] = []
        self._dropped: OrderedDict[BlockKey, None] = OrderedDict()

    def stats(self) -> IndexStats:
        """Return the current sizes."""
        return IndexStats(self._num_blocks, self._num_nodes, len(self._requests), self._num_evicted)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._requests

    def requests(self) -> list[str]:
        """Return the names of the requests that the index knows, oldest first."""
        return list(self._requests)

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
        return _search(node, skip, weights, self._max_visits)

    def _along(self, keys: Sequence[BlockKey]) -> Iterator[tuple[_Node, int, int]]:
        """Yield the nodes along a path: node, how many of its blocks match, blocks before it."""
        node, before = self._root, 0
        while before < len(keys):
            child = node.children.get(keys[before])
            if child is None:
                return
            common = _common(child.keys, keys, before)
            whole = common == len(child.keys)  # the caller may split the node meanwhile
            yield child, common, before
            if not whole:
                return
            before += common
            node = child

    def _descend(self, keys: Sequence[BlockKey]) -> tuple[_Node | None, int]:
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
        self._clock += 1
        node, found = self._root, 0
        for child, common, before in self._along(keys):
            node = self._split(child, common) if common < len(child.keys) else child
            node.used = self._clock
            found = before + common
        if found < len(keys):
            node = self._append(node, tuple(keys[found:]))
        if not node.children:
            self._enqueue(node)
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
        self._unname(request_id)
        return dropped

    def cut(self, keys: Sequence[BlockKey], keep: int) -> int:
        """Drop what follows the first `keep` blocks along the path `keys`; return how many."""
        for node, common, before in self._along(keys):
            if before + common > keep:
                return self._cut_node(node, keep - before)
        return 0

    def _cut_node(self, node: _Node, keep: int) -> int:
        parent = node.parent
        assert parent is not None
        if keep <= 0:
            del parent.children[node.keys[0]]
            node.parent = None
            dropped = self._discard([node])
            if parent is not self._root and not parent.children:
                self._enqueue(parent)
            return dropped
        dropped = self._discard(node.children.values()) + len(node.keys) - keep
        self._note_dropped(node.keys[keep:])
        self._num_blocks -= len(node.keys) - keep
        node.keys = node.keys[:keep]
        node.children = {}
        self._enqueue(node)
        return dropped

    def _discard(self, nodes: Iterable[_Node]) -> int:
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

    def _append(self, parent: _Node, keys: tuple[BlockKey, ...]) -> _Node:
        node = _Node(parent, keys, self._clock)
        parent.children[keys[0]] = node
        self._num_nodes += 1
        self._num_blocks += len(keys)
        if self._dropped:
            for key in keys:
                self._dropped.pop(key, None)
        return node

    def _split(self, node: _Node, at: int) -> _Node:
        """Split a node's run after `at` blocks; return the new upper node."""
        parent = node.parent
        assert parent is not None
        upper = _Node(parent, node.keys[:at], node.used)
        parent.children[upper.keys[0]] = upper
        node.keys = node.keys[at:]
        node.parent = upper
        upper.children[node.keys[0]] = node
        self._num_nodes += 1
        return upper

    def _unlink(self) -> None:
        """Take the tree apart, so that its memory is free at once and not with the next garbage."""
        stack = [self._root]
        while stack:
            node = stack.pop()
            stack.extend(node.children.values())
            node.children = {}
            node.parent = None

    # -- bounds ----------------------------------------------------------------------------------

    def _enqueue(self, leaf: _Node) -> None:
        if leaf.queued or leaf.parent is None:
            return
        leaf.queued = True
        self._ticket += 1
        heapq.heappush(self._leaves, (leaf.used, self._ticket, leaf))
        if len(self._leaves) > 2 * self._num_nodes + _MIN_SPENT:
            self._compact()

    def _compact(self) -> None:
        """Drop the queue's entries of nodes that are gone or are no leaves any more."""
        kept = []
        for entry in self._leaves:
            leaf = entry[2]
            leaf.queued = leaf.parent is not None and not leaf.children
            if leaf.queued:
                kept.append(entry)
        heapq.heapify(kept)
        self._leaves = kept

    def _evict(self) -> None:
        while self._num_blocks > self._max_blocks and self._leaves:
            used, _, leaf = heapq.heappop(self._leaves)
            leaf.queued = False
            if leaf.parent is None or leaf.children:
                continue
            if leaf.used != used:
                self._enqueue(leaf)
                continue
            newest = used == self._clock  # no other leaf is left: only its tail goes
            over = self._num_blocks - self._max_blocks
            self._num_evicted += self._cut_node(leaf, len(leaf.keys) - over if newest else 0)

    def _name(self, request_id: str, request: _Request) -> None:
        self._unname(request_id)
        self._requests[request_id] = request
        self._num_request_blocks += len(request.keys) + 1
        while self._num_request_blocks > self._max_blocks and len(self._requests) > 1:
            self._unname(next(iter(self._requests)))

    def _unname(self, request_id: str) -> None:
        request = self._requests.pop(request_id, None)
        if request is not None:
            self._num_request_blocks -= len(request.keys) + 1


def _search(
    start: _Node, skip: int, weights: Mapping[BlockKey, int], max_visits: int
) -> list[BlockKey]:
    """Search depth first, along paths within `weights` only, for the heaviest path."""
    left, path = set(weights), list[BlockKey]()
    best, best_weight, best_used = list[BlockKey](), 0, -1
    stack = [(start, skip, 0, 0)]
    while stack:
        node, skip, depth, weight = stack.pop()
        if len(path) > depth:
            left.update(path[depth:])
            del path[depth:]
        keys = node.keys
        while skip < len(keys) and keys[skip] in left:
            key = keys[skip]
            left.discard(key)
            path.append(key)
            weight += weights[key]
            skip += 1
        if weight > best_weight or (weight == best_weight and node.used > best_used and path):
            best, best_weight, best_used = path[:], weight, node.used
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
            ends_here = run[1] not in left if len(run) > 1 else not child.children
            if not ends_here or weight + weights[key] >= best_weight:
                stack.append((child, 0, depth, weight))
    return best


def _common(run: tuple[BlockKey, ...], keys: Sequence[BlockKey], start: int) -> int:
    """Return the length of the common head of `run` and `keys[start:]`."""
    n = min(len(run), len(keys) - start)
    for i in range(n):
        if run[i] != keys[start + i]:
            return i
    return n

"""The context index: what an engine's cache is believed to hold, and on whose word.

Paths of blocks (`paths`) are held by named requests. A request that was planned holds its whole
path, on credit: it is on its way to the engine. What the engine tells of it takes the place of
that, and when a name goes, so does what no other name holds. Where no engine ever tells anything,
names come and go without effect, and paths leave in the order of their last use alone.

| said of a request                 | it holds                    | what others hold of it |
|-----------------------------------|-----------------------------|------------------------|
| `insert`: planned                 | all, on credit              | stays                  |
| `add_cached`: so much is cached   | that, and its credit        | stays                  |
| `limit_cached`: so much is left   | that                        | stays                  |
| `set_cached`: so much, for all    | that                        | goes, beyond that      |
| `release`, `unfollow`: unknown    | nothing                     | stays                  |
| `end_credit`: it never ran        | what was told of it, if any | stays                  |
| `expire`: credit, never confirmed | what was told of it, if any | stays                  |
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from contextpilot.block import BlockKey
from contextpilot.paths import NamedPath, PathTree
from contextpilot.radix import Node

_MIN_YOUNG = 64
"""Entries of requests that are gone which the queue of the young may always hold."""
_EXPIRED_AT_ONCE = 512
_MARKS_PER_AGE = 8


class IndexStats(NamedTuple):
    """Sizes of an index: blocks and nodes in the tree, requests that it can name."""

    num_blocks: int
    num_nodes: int
    num_requests: int
    num_evicted_blocks: int


class ContextIndex(PathTree):
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
        super().__init__(max_blocks, max_visits, tick)
        self.on_unnamed: Callable[[str], object] | None = None
        """Is told of each request whose name goes, but for `clear`."""
        self._start()

    def _start(self) -> None:
        self._requests: OrderedDict[str, NamedPath] = OrderedDict()
        self._num_request_blocks = 0
        self._anchors: dict[str, Node] = {}
        self._young: deque[str] = deque()
        self._marks: deque[tuple[float, int]] = deque()
        self._old = 0
        self._last_told = 0
        self._has_unheld = False

    def clear(self) -> None:
        """Forget everything, names too, at once however much it is."""
        piles = self._requests, self._anchors, self._dropped
        self._start()
        self._dropped = OrderedDict()
        self._uproot(*piles)

    def empty(self) -> None:
        """Forget what the cache held, as fast as `clear`; names stay, for the engine to tell of."""
        self._note_all_dropped()
        anchors, self._anchors, self._has_unheld = self._anchors, {}, False
        self._young.clear()
        self._uproot(anchors)

    def stats(self) -> IndexStats:
        """Return the current sizes."""
        return IndexStats(self._num_blocks, self._num_nodes, len(self._requests), self._num_evicted)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._requests

    def requests(self) -> list[str]:
        """Return the names of the requests that the index knows, oldest first."""
        return list(self._requests)

    @property
    def num_named_blocks(self) -> int:
        """Blocks in the paths that requests name, and one for each request."""
        return self._num_request_blocks

    def live_tokens(self, request_id: str) -> int | None:
        """Return the prompt tokens of a request that are believed cached; None when unknown.

        What the engine has yet to read of it does not count once it told of the first part.
        """
        request = self._requests.get(request_id)
        if request is None:
            return None
        matched = self.match(request.keys)
        if request.has_credit and request.kept is not None:
            matched = min(matched, request.kept)
        if not matched:
            return 0
        tokens = self.held_tokens(request.keys[:matched], request.ends[matched - 1])
        return (
            tokens if not request.has_credit or request.told is None else min(tokens, request.told)
        )

    # -- planned ---------------------------------------------------------------------------------

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
            request_id: a name that holds the path, and under which the engine tells of it.
            ends: for each block the prompt tokens up to its end, non-decreasing; needed to
                translate the engine's token counts. Default: one token a block.
            total: tokens of the whole prompt in the measure of `ends`. Default: the last end.
        """
        if ends is not None and len(ends) != len(keys):
            raise ValueError(f"ends must give one token count per block: {len(ends)}, {len(keys)}")
        path = tuple(keys)
        node, found = self._extend(path)
        if request_id is not None:
            given = tuple(range(1, len(keys) + 1) if ends is None else ends)
            whole = total or (given[-1] if given else 0)
            self._name(request_id, NamedPath(path, given, whole, self._clock), node)
        self._evict()
        return found

    # -- told by an engine -----------------------------------------------------------------------

    def add_cached(
        self, request_id: str, tokens: int, prompt_tokens: int | None = None, slack: int = 0
    ) -> bool:
        """Learn that the first `tokens` prompt tokens of a request are in the cache.

        Args:
            tokens: as the engine counts them.
            prompt_tokens: the engine's count of the whole prompt, which corrects the estimate.
            slack: tokens that a block may lack and still count as held.

        Returns:
            False when the request is unknown.
        """
        request = self._learn(request_id, tokens, prompt_tokens, slack)
        if request is None:
            return False
        whole = request.kept == len(request.keys) or tokens + 2 * slack + 1 >= request.total
        node, _ = self._extend(request.keys[: request.kept])
        if whole or not request.has_credit or not self._is_held(request_id, node):
            self._hold(request_id, node, tokens)
        request.has_credit = request.has_credit and not whole
        self._evict()
        return True

    def limit_cached(
        self, request_id: str, tokens: int, prompt_tokens: int | None = None, slack: int = 0
    ) -> bool:
        """Learn that only the first `tokens` prompt tokens of a request are left.

        What others hold of the same path stays. Arguments as of `add_cached`.
        """
        request = self._learn(request_id, tokens, prompt_tokens, slack)
        if request is None:
            return False
        self._limit(request_id, request, tokens)
        return True

    def set_cached(
        self, request_id: str, tokens: int, prompt_tokens: int | None = None, slack: int = 0
    ) -> bool:
        """Learn that only the first `tokens` prompt tokens of a request are left, for everybody.

        What others hold beyond that point of the same path goes too: equal prefixes are one entry
        in the engine's cache. Arguments as of `add_cached`.
        """
        request = self._learn(request_id, tokens, prompt_tokens, slack)
        if request is None:
            return False
        node = self._limit(request_id, request, tokens)
        self.cut(request.keys, request.kept or 0)
        node.told = tokens
        return True

    def unfollow(self, request_id: str) -> None:
        """Learn that an engine knows the request, and not what is left of it."""
        request = self._requests.get(request_id)
        if request is not None:
            self._hear(request)
            self.release(request_id)

    def put_ahead(self, request_id: str, tokens: int) -> None:
        """Learn that a request was sent with more in front of its blocks than was planned.

        Call it before the engine tells of it; `tokens` are estimated as those of its blocks.
        """
        request = self._requests.get(request_id)
        if request is not None:
            request.put_ahead(tokens)

    def truncate(self, request_id: str, tokens: int) -> int:
        """Drop what follows the first `tokens` prompt tokens of a request; return the blocks.

        As `set_cached`, but nothing is added that was not believed before.
        """
        request = self._requests.get(request_id)
        if request is None:
            return 0
        return self.cut(request.keys, request.blocks_within(tokens))

    # -- no longer known -------------------------------------------------------------------------

    def release(self, request_id: str, keep: int = 0) -> int:
        """Let a request hold nothing; return the blocks dropped, which nobody else held.

        Its name stays, and so do the first `keep` blocks of its path.
        """
        request = self._requests.get(request_id)
        if request is None:
            return 0
        guard = self._node_at(request.keys[:keep]) if keep > 0 else None
        if guard is not None:
            guard.anchors += 1
        request.has_credit = False
        dropped = self._hold(request_id, self._root)
        if guard is not None:
            guard.anchors -= 1
        return dropped

    def forget(self, request_id: str, keep: int = 0) -> int:
        """Drop a request's name, and what nobody else holds of its path, as `release` does."""
        dropped = self.release(request_id, keep)
        self._drop_name(request_id)
        return dropped

    def end_credit(self, request_id: str) -> None:
        """Let a request hold no more than an engine told of it: the rest never came there."""
        request = self._requests.get(request_id)
        if request is None or not request.has_credit:
            return
        request.has_credit = False
        node, depth = self._anchor(request_id), 0
        while node is not None:
            depth += len(node.keys)
            node = node.parent
        kept = request.kept or 0
        if depth > kept:
            self._hold(request_id, self._extend(request.keys[:kept])[0])

    def forget_credit(self) -> None:
        """Drop what was planned and never told by an engine: it told all that it holds."""
        if not self._last_told:
            self.empty()
        while self._young:
            self.end_credit(self._young.popleft())

    def expire(self, now: float, max_age: float) -> None:
        """Drop credit older than `max_age` where the engine told of requests planned later.

        Call it now and then; `now` is in seconds, monotonic.
        """
        marks, young = self._marks, self._young
        if not marks or now - marks[-1][0] >= max_age / _MARKS_PER_AGE:
            marks.append((now, self._clock))
        while marks and now - marks[0][0] >= max_age:
            self._old = marks.popleft()[1]
        limit = min(self._old, self._last_told - 1)
        for _ in range(_EXPIRED_AT_ONCE):
            request = self._requests.get(young[0]) if young else None
            if not young or (request is not None and request.ticket > limit):
                break
            self.end_credit(young.popleft())

    # -- who holds what --------------------------------------------------------------------------

    def _learn(
        self, request_id: str, tokens: int, prompt_tokens: int | None, slack: int
    ) -> NamedPath | None:
        request = self._requests.get(request_id)
        if request is not None:
            request.count(prompt_tokens)
            request.told = tokens
            request.kept = request.blocks_within(tokens + slack) if tokens else 0
            self._hear(request)
        return request

    def _hear(self, request: NamedPath) -> None:
        """Note that an engine knows a request: from the first on, paths need somebody's word."""
        self._last_told = max(self._last_told, request.ticket)
        if self._has_unheld:
            self._has_unheld = False
            for leaf in self._leaves.nodes():
                self._prune(leaf)

    def _limit(self, request_id: str, request: NamedPath, tokens: int) -> Node:
        node, _ = self._extend(request.keys[: request.kept])
        self._hold(request_id, node, tokens)
        request.has_credit = False
        self._evict()
        return node

    def _hold(self, request_id: str, node: Node, tokens: int | None = None) -> int:
        """Let a request hold the path to `node`, and nothing else; return the blocks dropped."""
        before = self._anchor(request_id)
        if node.parent is None:
            self._anchors.pop(request_id, None)
        else:
            self._anchors[request_id] = node
            node.anchors += 1
            if tokens is not None:
                node.told = tokens if node.told is None else max(node.told, tokens)
        if before is None:
            return 0
        before.anchors -= 1
        return self._prune(before)

    def _anchor(self, request_id: str) -> Node | None:
        """Return the node that a request holds, or what is left of it; None if it holds nothing."""
        node = self._anchors.get(request_id)
        if node is None or node.left is None:
            return node
        while node.left is not None:
            node = node.left
        if node.parent is None:
            del self._anchors[request_id]
            return None
        self._anchors[request_id] = node
        return node

    def _is_held(self, request_id: str, node: Node) -> bool:
        """Return whether a request holds the path to `node`, or more."""
        held = self._anchor(request_id)
        while held is not None and held is not node:
            held = held.parent
        return held is not None

    # -- names -----------------------------------------------------------------------------------

    def unname(self, request_id: str) -> None:
        """Drop a request's name.

        What the tree holds of it stays, unless engines tell of this index: then nothing is
        believed for which nobody's word is known.
        """
        request = self._requests.get(request_id)
        if request is None:
            return
        if self._last_told:
            self._hold(request_id, self._root)
        elif (node := self._anchor(request_id)) is not None:
            node.anchors -= 1
            del self._anchors[request_id]
            self._has_unheld = True
        self._drop_name(request_id)

    def _name(self, request_id: str, request: NamedPath, node: Node) -> None:
        node.anchors += 1  # or else it might go with what the name held before
        self.unname(request_id)
        node.anchors -= 1
        self._hold(request_id, node)
        self._requests[request_id] = request
        self._num_request_blocks += len(request.keys) + 1
        self._remember(request_id)
        while self._num_request_blocks > self._max_blocks and len(self._requests) > 1:
            self.unname(next(iter(self._requests)))

    def _remember(self, request_id: str) -> None:
        young, known = self._young, self._requests
        young.append(request_id)
        if len(young) > 2 * len(known) + _MIN_YOUNG:
            self._young = deque(n for n in young if n in known and known[n].has_credit)

    def _drop_name(self, request_id: str) -> None:
        request = self._requests.pop(request_id, None)
        if request is not None:
            self._num_request_blocks -= len(request.keys) + 1
            if self.on_unnamed is not None:
                self.on_unnamed(request_id)

"""Paths of blocks, and the requests that hold them by name.

A request holds the path that ends with its anchor. When one goes, so does what no other holds.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import NamedTuple

from contextpilot.named import NamedPath, Points
from contextpilot.paths import PathTree
from contextpilot.radix import Node

_MIN_YOUNG = 64
"""Entries of requests that are gone which the queue of the young may always hold."""


class IndexStats(NamedTuple):
    """Sizes of an index: blocks and nodes in the tree, requests that it can name."""

    num_blocks: int
    num_nodes: int
    num_requests: int
    num_evicted_blocks: int


class HeldPaths(PathTree):
    """Paths held by requests. Not thread-safe: its owner holds the lock.

    Arguments as of `PathTree`.

    Attributes:
        on_unnamed: is told of each request whose name goes, but for `clear`.
    """

    def __init__(
        self,
        max_blocks: int = 2_000_000,
        max_visits: int = 1_000,
        tick: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(max_blocks, max_visits, tick)
        self.on_unnamed: Callable[[str], object] | None = None
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
        """Blocks in the paths that requests name, one for each request, and what is told of it."""
        return self._num_request_blocks

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
        self._say_stops(request)
        dropped = self._hold(request_id, self._root)
        if guard is not None:
            guard.anchors -= 1
        return dropped

    def forget(self, request_id: str, keep: int = 0) -> int:
        """Drop a request's name, and what nobody else holds of its path, as `release` does."""
        dropped = self.release(request_id, keep)
        self._drop_name(request_id)
        return dropped

    # -- who holds what --------------------------------------------------------------------------

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

    def _say_stops(
        self, request: NamedPath, points: Points = (), stops: tuple[int, ...] = ()
    ) -> None:
        """Learn where a request's path can be reused by its word; nowhere else any more."""
        if request.said_of is self._root:
            self._count_stops(request.keys, request.stops, -1)
        self._num_request_blocks += len(points) - len(request.points)
        request.points, request.stops, request.said_of = points, stops, self._root
        self._count_stops(request.keys, stops, 1)

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
        self._say_stops(request)
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
        self._bound_names()

    def _bound_names(self) -> None:
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

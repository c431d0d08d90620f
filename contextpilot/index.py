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

from collections.abc import Sequence

from contextpilot.block import BlockKey
from contextpilot.held import HeldPaths
from contextpilot.named import NamedPath, Points, Told, point_below, stops
from contextpilot.radix import Node

_EXPIRED_AT_ONCE = 512
_MARKS_PER_AGE = 8


class ContextIndex(HeldPaths):
    """Prefix tree of blocks with request names. Not thread-safe: its owner holds the lock.

    Args:
        max_blocks: bound on blocks in the tree (and on the blocks that requests name).
        max_visits: nodes that one search may look at; beyond it the best found so far counts.
        tick: returns the next logical time; shared by indexes whose leaves are to be compared.
    """

    def live_tokens(self, request_id: str) -> int | None:
        """Return the prompt tokens of a request that are believed cached; None when unknown.

        What the engine has yet to read of it does not count once it told of the first part.
        """
        request = self._requests.get(request_id)
        if request is None:
            return None
        if self.is_sparse:
            return self._reusable(request)
        matched = self.match(request.keys)
        if request.has_credit and request.kept is not None:
            matched = min(matched, request.kept)
        if not matched:
            return 0
        tokens = self.held_tokens(request.keys[:matched], request.ends[matched - 1])
        return (
            tokens if not request.has_credit or request.told is None else min(tokens, request.told)
        )

    def _reusable(self, request: NamedPath) -> int:
        """Return the largest point that was told of what the tree holds of a request."""
        known = self.num_known(request.keys)
        is_said = request.said_of is self._root and request.points
        if not is_said or known < (request.kept or 0):
            known = self.match(request.keys[:known])
            return self.held_tokens(request.keys[:known], request.ends[known - 1]) if known else 0
        return max(0, point_below(request.points, request.total) - self.dropped)

    def told_tokens(self, request_id: str) -> int | None:
        """Return the tokens that an engine told last of a request; None when it told nothing."""
        request = self._requests.get(request_id)
        return request.told if request is not None else None

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
        self,
        request_id: str,
        tokens: int,
        prompt_tokens: int | None = None,
        slack: int = 0,
        points: Points | None = None,
    ) -> bool:
        """Learn that the first `tokens` prompt tokens of a request are in the cache.

        The arguments are the members of `Told`.

        Returns:
            False when the request is unknown.
        """
        told = Told(tokens, prompt_tokens, slack, points)
        request = self._learn(request_id, told)
        if request is None:
            return False
        whole = request.kept == len(request.keys) or tokens + 2 * slack + 1 >= request.total
        node, _ = self._extend(request.keys[: request.kept])
        if whole or not request.has_credit or not self._is_held(request_id, node):
            self._hold(request_id, node, tokens)
        request.has_credit = request.has_credit and not whole
        self._reuse(request, told)
        self._evict()
        return True

    def limit_cached(
        self,
        request_id: str,
        tokens: int,
        prompt_tokens: int | None = None,
        slack: int = 0,
        points: Points | None = None,
    ) -> bool:
        """Learn that only the first `tokens` prompt tokens of a request are left.

        What others hold of the same path stays. Arguments as of `add_cached`.
        """
        told = Told(tokens, prompt_tokens, slack, points)
        request = self._learn(request_id, told)
        if request is None:
            return False
        self._limit(request_id, request, told)
        return True

    def set_cached(
        self,
        request_id: str,
        tokens: int,
        prompt_tokens: int | None = None,
        slack: int = 0,
        points: Points | None = None,
    ) -> bool:
        """Learn that only the first `tokens` prompt tokens of a request are left, for everybody.

        What others hold beyond that point of the same path goes too: equal prefixes are one entry
        in the engine's cache. Arguments as of `add_cached`.
        """
        told = Told(tokens, prompt_tokens, slack, points)
        request = self._learn(request_id, told)
        if request is None:
            return False
        node = self._limit(request_id, request, told)
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

    def end_credit(self, request_id: str) -> None:
        """Let a request hold no more than an engine told of it: the rest never came there."""
        request = self._requests.get(request_id)
        if request is None or not request.has_credit:
            return
        request.has_credit = False
        node, kept = self._anchor(request_id), request.kept or 0
        if node is not None and len(self._path(node)) > kept:
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

    def _learn(self, request_id: str, told: Told) -> NamedPath | None:
        request = self._requests.get(request_id)
        if request is not None:
            request.count(told.prompt_tokens)
            tokens, request.told = told.tokens, told.tokens
            request.kept = request.blocks_within(tokens + told.slack) if tokens else 0
            self._hear(request)
        return request

    def _reuse(self, request: NamedPath, told: Told) -> None:
        """Learn where the path of a request can be reused, and nowhere else by its word."""
        if self.is_sparse:
            whole = ((self.granule, told.tokens),) if told.tokens >= self.granule else ()
            points = whole if told.points is None else told.points
            self._say_stops(request, points, stops(request.ends, points, self.granule))
            self._bound_names()

    def _hear(self, request: NamedPath) -> None:
        """Note that an engine knows a request: from the first on, paths need somebody's word."""
        self._last_told = max(self._last_told, request.ticket)
        if self._has_unheld:
            self._has_unheld = False
            for leaf in self._leaves.nodes():
                self._prune(leaf)

    def _limit(self, request_id: str, request: NamedPath, told: Told) -> Node:
        node, _ = self._extend(request.keys[: request.kept])
        self._hold(request_id, node, told.tokens)
        request.has_credit = False
        self._reuse(request, told)
        self._evict()
        return node

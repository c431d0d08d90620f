"""Approximate sync for upstreams that send no events: what was not used for a while is gone.

How long a while is, the answers tell: tokens from the cache although we took them for gone mean
longer, none although we took them for live mean shorter.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from contextpilot.block import BlockKey
from contextpilot.namespace import Namespaces

DEFAULT_TTL_S = 300.0
"""Both large providers keep prefixes for at least five minutes after their last use."""
MIN_TTL_S, MAX_TTL_S = 30.0, 86_400.0
MIN_CACHED_TOKENS = 1024
"""Providers cache no shorter prefixes, so less says nothing."""
_MAX_PATHS = 100_000


class _Path(NamedTuple):
    namespace: str
    keys: tuple[BlockKey, ...]
    marks: tuple[int, ...]


class TtlSync:
    """Ages one upstream's part of the index. For use on one thread.

    Args:
        namespaces: the part of the index.
        clock: seconds, monotonic.
    """

    def __init__(self, namespaces: Namespaces, clock: Callable[[], float] = time.monotonic) -> None:
        self._namespaces = namespaces
        self._clock = clock
        self._used: OrderedDict[int, float] = OrderedDict()
        self._paths: OrderedDict[tuple[str, tuple[BlockKey, ...]], tuple[float, _Path]]
        self._paths = OrderedDict()
        self.ttl_s = DEFAULT_TTL_S

    def note(self, namespace: str, keys: Sequence[BlockKey]) -> None:
        """Note that a prompt with this path goes to the upstream now."""
        now, mark = self._clock(), hash(namespace)
        marks = []
        for key in keys:
            mark = hash((mark, key))
            marks.append(mark)
            self._used[mark] = now
            self._used.move_to_end(mark)
        path = _Path(namespace, tuple(keys), tuple(marks))
        self._paths[namespace, path.keys] = now, path
        self._paths.move_to_end((namespace, path.keys))
        if len(self._paths) > _MAX_PATHS:
            self._drop(self._paths.popitem(last=False)[1][1], now)

    def expire(self) -> int:
        """Cut from the index what was not used for the time to live; return the blocks dropped."""
        now, dropped = self._clock(), 0
        while self._paths:
            name, (since, path) = next(iter(self._paths.items()))
            if now - since <= self.ttl_s:
                break
            del self._paths[name]
            dropped += self._drop(path, now - self.ttl_s)
        return dropped

    def learn(self, expected_tokens: int, cached_tokens: int, age_s: float) -> None:
        """Compare what was believed with what the upstream said.

        Args:
            expected_tokens: of the prompt's prefix that was believed to be cached.
            cached_tokens: as the upstream counted them.
            age_s: seconds since that prefix was last used.
        """
        if cached_tokens >= expected_tokens + MIN_CACHED_TOKENS:
            self.ttl_s = min(MAX_TTL_S, self.ttl_s * 1.5)
        elif expected_tokens >= 2 * MIN_CACHED_TOKENS and cached_tokens < MIN_CACHED_TOKENS:
            self.ttl_s = max(MIN_TTL_S, (self.ttl_s + min(age_s, self.ttl_s)) / 2)

    def age(self, namespace: str, keys: Sequence[BlockKey], num_live: int) -> float:
        """Return the seconds since the first `num_live` keys of a path were last used."""
        mark = hash(namespace)
        for key in keys[:num_live]:
            mark = hash((mark, key))
        return self._clock() - self._used.get(mark, self._clock())

    def _drop(self, path: _Path, oldest: float) -> int:
        """Cut a path behind the last block that is younger than `oldest`."""
        keep = len(path.keys)
        while keep and self._used.get(path.marks[keep - 1], 0.0) <= oldest:
            self._used.pop(path.marks[keep - 1], None)
            keep -= 1
        space = self._namespaces.find(path.namespace)
        if space is None or keep == len(path.keys):
            return 0
        with space.lock:
            return space.planner.index.cut(path.keys, keep)

"""Approximate sync for upstreams that send no events: what was not used for a while is gone.

How long a while is, the answers tell: tokens from the cache although we took them for gone mean
longer, none although we took them for live mean shorter.

Each place in a prompt, a block behind all those before it, has its own last use, so what prompts
share lives as long as any of them. Places stand in order of last use, and one always after those
behind it: whatever goes from the front is the end of a path, and what others share stays.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import takewhile

from contextpilot.block import BlockKey
from contextpilot.namespace import Namespaces

DEFAULT_TTL_S = 300.0
"""Both large providers keep prefixes for at least five minutes after their last use."""
MIN_TTL_S, MAX_TTL_S = 30.0, 86_400.0
MIN_CACHED_TOKENS = 1024
"""Providers cache no shorter prefixes, so less says nothing."""
MAX_PLACES = 1_000_000
"""Some 200 bytes each."""
_DROPPED_AT_ONCE = 1000


class _Place:
    """A block behind all those before it: `used` in seconds, `note` counts prompts."""

    __slots__ = ("before", "key", "mark", "note", "used")

    def __init__(self, before: _Place | None, key: BlockKey, mark: int) -> None:
        self.before = before
        self.key = key
        self.mark = mark
        self.used = 0.0
        self.note = 0


class SyncByAge:
    """Ages one upstream's part of the index. For use on one thread.

    Args:
        namespaces: the part of the index.
        clock: seconds, monotonic.
        max_places: beyond so many the ends of the paths that were not used longest go.
    """

    def __init__(
        self,
        namespaces: Namespaces,
        clock: Callable[[], float] = time.monotonic,
        max_places: int = MAX_PLACES,
    ) -> None:
        self._namespaces = namespaces
        self._clock = clock
        self._max = max_places
        self._places: OrderedDict[int, _Place] = OrderedDict()
        self._notes = 0
        self.ttl_s = DEFAULT_TTL_S

    def __len__(self) -> int:
        return len(self._places)

    def note(self, namespace: str, keys: Sequence[BlockKey]) -> None:
        """Note that the upstream read a prompt with this path now."""
        now, path = self._clock(), [_Place(None, namespace, hash(namespace))]
        self._notes += 1
        for key in keys:
            before = path[-1]
            mark = hash((before.mark, key))
            place = self._places.get(mark)
            if place is None:
                place = self._places[mark] = _Place(before, key, mark)
            place.used, place.note = now, self._notes
            path.append(place)
        for place in reversed(path[1:]):
            self._places.move_to_end(place.mark)
        while len(self._places) > self._max:
            self._drop_oldest()

    def expire(self) -> int:
        """Cut from the index what was not used for the time to live; return how many places went.

        Some milliseconds' worth at once: call it again until nothing goes.
        """
        oldest, dropped = self._clock() - self.ttl_s, 0
        while self._places and dropped < _DROPPED_AT_ONCE:
            if next(iter(self._places.values())).used >= oldest:
                break
            dropped += self._drop_first(lambda place: place.used < oldest)
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

    def known(self, namespace: str, keys: Sequence[BlockKey]) -> tuple[int, float]:
        """Return how many leading keys are believed to be cached, and the age of that in seconds.

        The age counts from the last use of all of them together.
        """
        number, age, mark = 0, 0.0, hash(namespace)
        for key in keys:
            mark = hash((mark, key))
            place = self._places.get(mark)
            if place is None:
                break
            number, age = number + 1, self._clock() - place.used
        return number, age

    def _drop_oldest(self) -> None:
        """Drop what only the prompt holds that was noted longest ago: no other path shares it."""
        note = next(iter(self._places.values())).note
        self._drop_first(lambda place: place.note == note)

    def _drop_first(self, goes: Callable[[_Place], bool]) -> int:
        """Drop the first place, and those before it on its path while they go, too."""
        path, place = [], next(iter(self._places.values()))
        while place.before is not None:
            path.append(self._places.get(place.mark, place))  # it may have gone, and come again
            place = place.before
        gone = list(takewhile(goes, path))
        held = len(self._places)
        for one in gone:
            self._places.pop(one.mark, None)
        space = self._namespaces.find(str(place.key))
        if space is not None:
            with space.lock:
                space.planner.index.cut([p.key for p in path[::-1]], len(path) - len(gone))
        return held - len(self._places)

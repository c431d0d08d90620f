"""Approximate sync for upstreams that send no events: what was not used for a while is gone.

How long a while is hangs on what a request asked for, and the answers tell it: tokens from the
cache although we took them for gone mean longer, none although we took them for live mean shorter.

Each place in a prompt, a block behind all those before it, has its own last use, so what prompts
share lives as long as any of them. Places of one life stand in order of last use, and one always
after those behind it: whatever goes from the front ends a path, and what others share stays.
"""

from __future__ import annotations

import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from typing import NamedTuple

from contextpilot.block import BlockKey
from contextpilot.namespace import Namespaces

DEFAULT_TTL_S = 300.0
"""Both large providers keep prefixes for at least five minutes after their last use."""
MIN_TTL_S, MAX_TTL_S = 30.0, 86_400.0
MIN_CACHED_TOKENS = 1024
"""Providers cache no shorter prefixes, so less says nothing."""
MAX_PLACES = 1_000_000
"""Some 300 bytes each."""
_DROPPED_AT_ONCE = 1000


class Known(NamedTuple):
    """What is believed of a path.

    Attributes:
        keys: so many leading ones are cached.
        age_s: seconds since all of these were last used together.
        tokens: of a prompt that ended within them, as the upstream counted; None: none did.
        life_s: for so long they were asked to be kept; 0: for as long as usual.
    """

    keys: int
    age_s: float
    tokens: int | None
    life_s: float


class _Place:
    """A block behind all those before it.

    `life` and `used` in seconds, `note` counts prompts, `tokens` is of a prompt that ended here.
    """

    __slots__ = ("before", "key", "life", "mark", "note", "tokens", "used")

    def __init__(self, before: _Place | None, key: BlockKey, mark: int) -> None:
        self.before = before
        self.key = key
        self.mark = mark
        self.life = -1.0
        self.used = 0.0
        self.note = 0
        self.tokens: int | None = None


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
        self._places: dict[int, _Place] = {}
        self._by_use: defaultdict[float, OrderedDict[int, _Place]] = defaultdict(OrderedDict)
        self._ttls: dict[float, float] = {}
        self._notes = 0
        self._last_life = 0.0

    def __len__(self) -> int:
        return len(self._places)

    @property
    def ttl_s(self) -> float:
        """Seconds that the prompt that was sent last lives on."""
        return self._ttl(self._last_life)

    def note(self, namespace: str, keys: Sequence[BlockKey], life_s: float = 0.0) -> None:
        """Note that the upstream read a prompt with this path now.

        Args:
            life_s: for so long it was asked to keep it; 0: for as long as usual. What it keeps
                longer already, it goes on keeping so long.
        """
        now, path = self._clock(), [_Place(None, namespace, hash(namespace))]
        self._notes += 1
        for key in keys:
            before = path[-1]
            mark = hash((before.mark, key))
            place = self._places.get(mark)
            is_left = before.before is not None and place is not None and place.before is not before
            if place is None or is_left:
                place = self._renewed(place, before, key, mark)
            place.used, place.note = now, self._notes
            path.append(place)
        for place in reversed(path[1:]):
            self._move_last(place, max(life_s, place.life))
        self._last_life = max(life_s, path[-1].life)
        while len(self._places) > self._max:
            self._drop_oldest()

    def counted(self, namespace: str, keys: Sequence[BlockKey], tokens: int) -> None:
        """Note how many tokens a prompt with this path has, as the upstream counts."""
        path = list(self._along(namespace, keys))
        if path and len(path) == len(keys):
            path[-1].tokens = tokens

    def expire(self) -> int:
        """Cut from the index what was not used for the time to live; return how many places went.

        Some milliseconds' worth at once: call it again until nothing goes.
        """
        now, dropped = self._clock(), 0
        for life, places in self._by_use.items():
            oldest = now - self._ttl(life)
            while places and dropped < _DROPPED_AT_ONCE:
                first = next(iter(places.values()))
                if first.used >= oldest:
                    break
                dropped += self._drop(first, lambda one: self._is_due(one, now))
        return dropped

    def learn(
        self,
        expected_tokens: int,
        cached_tokens: int,
        age_s: float,
        life_s: float = 0.0,
    ) -> None:
        """Compare what was believed with what the upstream said.

        Args:
            expected_tokens: of the prompt's prefix that was believed to be cached.
            cached_tokens: as the upstream counted them.
            age_s: seconds since that prefix was last used.
            life_s: for so long it was asked to be kept.
        """
        ttl = self._ttl(life_s)
        if cached_tokens >= expected_tokens + MIN_CACHED_TOKENS:
            self._ttls[life_s] = min(MAX_TTL_S, ttl * 1.5)
        elif is_miss(expected_tokens, cached_tokens):
            self._ttls[life_s] = max(MIN_TTL_S, (ttl + min(age_s, ttl)) / 2)

    def known(self, namespace: str, keys: Sequence[BlockKey]) -> Known:
        """Return what is believed of a path."""
        path = list(self._along(namespace, keys))
        if not path:
            return Known(0, 0.0, None, 0.0)
        told = next((place.tokens for place in reversed(path) if place.tokens is not None), None)
        return Known(len(path), self._clock() - path[-1].used, told, path[-1].life)

    def take_back(self, namespace: str, keys: Sequence[BlockKey], keep: int) -> None:
        """Believe no more of a path than its first `keep` keys, nor of what stands behind them."""
        for place in list(self._along(namespace, keys))[keep:]:
            self._forget(place)
        self._cut(namespace, keys, keep)

    def _ttl(self, life: float) -> float:
        return self._ttls.get(life, life or DEFAULT_TTL_S)

    def _is_due(self, place: _Place, now: float) -> bool:
        return place.used < now - self._ttl(place.life)

    def _along(self, namespace: str, keys: Sequence[BlockKey]) -> Iterator[_Place]:
        """Yield the places of a path, as far as it is known."""
        mark, before = hash(namespace), None
        for key in keys:
            mark = hash((mark, key))
            place = self._places.get(mark)
            if place is None or (before is not None and place.before is not before):
                return  # none, or what is left of a path that was taken back
            yield place
            before = place

    def _renewed(self, left: _Place | None, before: _Place, key: BlockKey, mark: int) -> _Place:
        """Return a new place, instead of what is left of a path that was taken back."""
        if left is not None:
            self._forget(left)
        place = self._places[mark] = _Place(before, key, mark)
        return place

    def _move_last(self, place: _Place, life: float) -> None:
        if place.life != life:
            if place.life >= 0:
                del self._by_use[place.life][place.mark]
            place.life = life
            self._by_use[life][place.mark] = place
        self._by_use[life].move_to_end(place.mark)

    def _forget(self, place: _Place) -> None:
        if self._places.get(place.mark) is place:
            del self._places[place.mark]
            del self._by_use[place.life][place.mark]

    def _drop_oldest(self) -> None:
        """Drop what only the prompt holds that was noted longest ago: no other path shares it."""
        firsts = (next(iter(places.values())) for places in self._by_use.values() if places)
        first = min(firsts, key=lambda place: (place.note, place.life))
        self._drop(first, lambda place: place.note == first.note)

    def _drop(self, first: _Place, goes: Callable[[_Place], bool]) -> int:
        """Drop a place, and those before it on its path while they go, too."""
        path, place = [], first
        while place.before is not None:
            path.append(self._places.get(place.mark, place))  # it may have gone, and come again
            place = place.before
        gone = list(takewhile(goes, path))
        held = len(self._places)
        for one in gone:
            self._forget(one)
        self._cut(str(place.key), [one.key for one in path[::-1]], len(path) - len(gone))
        return held - len(self._places)

    def _cut(self, namespace: str, keys: Sequence[BlockKey], keep: int) -> None:
        space = self._namespaces.find(namespace)
        if space is not None:
            with space.lock:
                space.planner.index.cut(keys, keep)


def is_miss(expected_tokens: int, cached_tokens: int) -> bool:
    """Return whether nothing was cached of a prefix that was believed to be."""
    return expected_tokens >= 2 * MIN_CACHED_TOKENS and cached_tokens < MIN_CACHED_TOKENS

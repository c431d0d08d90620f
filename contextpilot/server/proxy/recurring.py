"""Prefixes that a cloud was sent before: only those are worth a mark, since writing one costs.

A prompt is known by a chain of hashes, one for each place where it may be cut: behind its opening
(tools and system prompt), and behind each message. `cache_control` is no part of them.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from contextpilot.prompt.apis.shape import Shape
from contextpilot.prompt.messages import messages_key

_MAX_PLACES = 200_000
_LIFE_S = 3600.0
"""Who comes again later than this pays for a mark what it saves: the longest life of a prefix."""


class Recurring(NamedTuple):
    """What of a prompt was sent before.

    Attributes:
        opening: its tools and system prompt were.
        turns: so many of its first messages were, behind the same opening.
        places: where it may be cut, for `RecurringPrefixes.note`.
    """

    opening: bool
    turns: int
    places: Sequence[bytes] = ()


class RecurringPrefixes:
    """The places of recent prompts, bounded. For use on one thread.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(
        self, max_places: int = _MAX_PLACES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max = max_places
        self._clock = clock
        self._seen: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def find(self, namespace: str, shape: Shape, body: Mapping[str, Any]) -> Recurring:
        """Return what of a prompt was sent before."""
        now = self._clock()
        opening = shape.opening(body)
        places = list(_places(namespace, opening, shape.turns(body)))
        known = 0
        for place in places:
            if self._seen.get(place, -math.inf) < now - _LIFE_S:
                break
            known += 1
        return Recurring(bool(opening) and known > 0, max(0, known - 1), places)

    def note(self, prompt: Recurring) -> None:
        """Note that an upstream read a prompt."""
        now = self._clock()
        for place in prompt.places:
            self._seen[place] = now
            self._seen.move_to_end(place)
        while len(self._seen) > self._max:
            self._seen.popitem(last=False)


def _places(
    namespace: str, opening: Sequence[Mapping[str, Any]], turns: Sequence[Mapping[str, Any]]
) -> Iterator[bytes]:
    chain = hashlib.blake2b(namespace.encode("utf-8", "surrogatepass"), digest_size=16)
    chain.update(messages_key(opening))
    yield chain.digest()
    for turn in turns:
        chain.update(messages_key([turn]))
        yield chain.digest()

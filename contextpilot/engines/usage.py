"""The engine's token counts, read from an answer as it passes by.

An answer is read by the names of all kinds together: what stands before an engine may have turned
one form into another, and many engines speak several APIs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from contextpilot.engines.base import UsageNames
from contextpilot.engines.registry import kinds

_KEPT_BYTES = 16_384


class Usage(NamedTuple):
    """Prompt tokens, and those of them from the cache; None is not measured, 0 is none."""

    prompt_tokens: int | None
    cached_tokens: int | None


class Written(NamedTuple):
    """Prompt tokens that were written into the cache, and those of them that are kept longer."""

    tokens: int
    long_tokens: int


class UsageReader:
    """Keeps the first and the last bytes of an answer: usage stands at either end.

    A quote inside a JSON text is escaped, so what a model writes cannot pass for a count.
    """

    def __init__(self) -> None:
        self._head = b""
        self._tail = b""
        self._names = _patterns(frozenset(kind.usage for kind in kinds()))

    def feed(self, chunk: bytes) -> None:
        """Take a piece of the body."""
        if len(self._head) < _KEPT_BYTES:
            self._head += chunk[: _KEPT_BYTES - len(self._head)]
        self._tail = (self._tail + chunk)[-_KEPT_BYTES:]

    def result(self) -> Usage:
        """Return the counts; those at the end win."""
        names = self._names
        prompt, cached = self._last(names.prompt), self._last(names.cached)
        computed = self._last(names.computed)
        if prompt is None and cached is not None and computed is not None:
            prompt = cached + computed
        if prompt is not None and names.apart.search(self._head + self._tail):
            prompt += (cached or 0) + (self._last(names.written) or 0)
        if prompt is not None and cached is not None:
            cached = min(cached, prompt)
        return Usage(prompt, cached)

    def written(self) -> Written | None:
        """Return what was written into the cache; None where the answer does not tell."""
        tokens = self._last(self._names.written)
        if tokens is None:
            return None
        return Written(tokens, self._last(self._names.written_long) or 0)

    def generated(self) -> int | None:
        """Return the tokens of the answer, where it told them."""
        return self._last(self._names.generated)

    def _last(self, pattern: re.Pattern[bytes]) -> int | None:
        found = pattern.findall(self._tail) or pattern.findall(self._head)
        return int(found[-1]) if found else None


class _Patterns(NamedTuple):
    """Find counts by their names; `apart` finds a name alone."""

    prompt: re.Pattern[bytes]
    cached: re.Pattern[bytes]
    computed: re.Pattern[bytes]
    written: re.Pattern[bytes]
    written_long: re.Pattern[bytes]
    generated: re.Pattern[bytes]
    apart: re.Pattern[bytes]


@cache
def _patterns(known: frozenset[UsageNames]) -> _Patterns:
    apart = {name for names in known for name in names.cached_apart}
    return _Patterns(
        prompt=_count(name for names in known for name in names.prompt),
        cached=_count(apart.union(*(names.cached for names in known))),
        computed=_count(name for names in known for name in names.computed),
        written=_count(name for names in known for name in names.written),
        written_long=_count(name for names in known for name in names.written_long),
        generated=_count(name for names in known for name in names.generated),
        apart=re.compile(rb'"' + _any_of(apart) + rb'"'),
    )


def _count(names: Iterable[str]) -> re.Pattern[bytes]:
    return re.compile(rb'"' + _any_of(names) + rb'"\s*:\s*(\d{1,15})(?![\d.eE])')


def _any_of(names: Iterable[str]) -> bytes:
    """Return a group that matches any of these names; nothing where there are none."""
    return b"(?:" + ("|".join(map(re.escape, sorted(set(names)))) or r"(?!)").encode() + b")"

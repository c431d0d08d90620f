"""The engine's token counts, read from an answer as it passes by."""

from __future__ import annotations

import re
from typing import NamedTuple

_KEPT_BYTES = 16_384
_PROMPT = re.compile(rb'"(?:prompt|input)_tokens"\s*:\s*(\d+)')
_CACHED = re.compile(rb'"(?:cached_tokens|cache_read_input_tokens|cache_n)"\s*:\s*(\d+)')
_COMPUTED = re.compile(rb'"prompt_n"\s*:\s*(\d+)')
_GENERATED = re.compile(rb'"(?:completion_tokens|output_tokens|predicted_n)"\s*:\s*(\d+)')
_CREATED = re.compile(rb'"cache_creation_input_tokens"\s*:\s*(\d+)')


class Usage(NamedTuple):
    """Prompt tokens, and those of them from the cache; None is not measured, 0 is none."""

    prompt_tokens: int | None
    cached_tokens: int | None


class UsageReader:
    """Keeps the first and the last bytes of an answer: usage stands at either end.

    A quote inside a JSON text is escaped, so what a model writes cannot pass for a count.
    """

    def __init__(self) -> None:
        self._head = b""
        self._tail = b""

    def feed(self, chunk: bytes) -> None:
        """Take a piece of the body."""
        if len(self._head) < _KEPT_BYTES:
            self._head += chunk[: _KEPT_BYTES - len(self._head)]
        self._tail = (self._tail + chunk)[-_KEPT_BYTES:]

    def result(self) -> Usage:
        """Return the counts; those at the end win."""
        prompt, cached = self._last(_PROMPT), self._last(_CACHED)
        computed = self._last(_COMPUTED)
        if prompt is None and cached is not None and computed is not None:
            prompt = cached + computed  # llama-server's timings, at the end of a stream
        if b'"cache_read_input_tokens"' in self._head + self._tail and prompt is not None:
            # Anthropic counts the uncached part alone as input
            prompt += (cached or 0) + (self._last(_CREATED) or 0)
        return Usage(prompt, cached)

    def generated(self) -> int | None:
        """Return the tokens of the answer, where it told them."""
        return self._last(_GENERATED)

    def _last(self, pattern: re.Pattern[bytes]) -> int | None:
        found = pattern.findall(self._tail) or pattern.findall(self._head)
        return int(found[-1]) if found else None

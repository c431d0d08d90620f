"""What an upstream that tells nothing should have had of a prompt in its cache, to learn from."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from contextpilot.block import BlockKey
from contextpilot.engines.usage import Usage, Written
from contextpilot.planning import Job, Planned
from contextpilot.server.pool.prompt_path import ends_of, path_of
from contextpilot.server.pool.sync_by_age import (
    MIN_CACHED_TOKENS,
    Known,
    SyncByAge,
    is_miss,
)


@dataclass(frozen=True)
class Expectation:
    """What was believed of one request before it went to its upstream.

    Attributes:
        keys: its path in the index.
        ends: prompt tokens up to the end of each key, as we count; a head's are those of all of it.
        known: what is believed of the path.
        tokens: of its prompt in the cache; None when that cannot be counted.
        is_all: the path is all of the prompt.
        tells_writes: its upstream tells what it writes into its cache, and for how long.
    """

    sync: SyncByAge
    namespace: str
    keys: Sequence[BlockKey]
    ends: Sequence[int]
    known: Known
    tokens: int | None
    is_all: bool
    tells_writes: bool

    @classmethod
    def of(cls, sync: SyncByAge, job: Job, planned: Planned, *, tells_writes: bool) -> Expectation:
        """Return what is believed of a planned request that was not sent yet."""
        keys, ends = path_of(job, planned), ends_of(job, planned)
        known = sync.known(job.namespace, keys)
        expected: int | None = ends[known.keys - 1] if known.keys else 0
        if 0 < known.keys < len(job.head.keys):  # a head has one count: its parts are not known
            expected = known.tokens
        is_all = keys == job.head.keys
        return cls(sync, job.namespace, keys, ends, known, expected, is_all, tells_writes)

    def confirm(self, asked_s: float) -> None:
        """Note that the upstream reads the prompt: its prefixes live on from now.

        Args:
            asked_s: for so long the request asked to keep it; 0: for as long as usual. Where the
                answer will tell whether it is, that is waited for.
        """
        self.sync.note(self.namespace, self.keys, 0.0 if self.tells_writes else asked_s)

    def compare(self, usage: Usage, written: Written | None, asked_s: float) -> None:
        """Learn from a whole answer: how long prefixes live, and what of this one is there now.

        Args:
            written: what was written into the cache, where the upstream tells that.
            asked_s: as for `confirm`.
        """
        if written is not None and written.long_tokens:
            self.sync.note(self.namespace, self.keys, asked_s)
        prompt, cached = usage
        if cached is None:
            return
        if self.tokens is not None:
            life = self.known.life_s if self.known.keys else asked_s
            self.sync.learn(self.tokens, cached, self.known.age_s, life)
        held = self._held(prompt, cached, written)
        keep = bisect_right(self._scaled_ends(prompt), held)
        if not is_miss(self.tokens or 0, cached):
            keep = max(keep, self.known.keys)
        self.sync.take_back(self.namespace, self.keys, keep)
        if prompt is not None and self.is_all and keep == len(self.keys):
            self.sync.counted(self.namespace, self.keys, prompt)

    def _held(self, prompt: int | None, cached: int, written: Written | None) -> float:
        """Return how many leading tokens the cache holds now."""
        if written is not None:
            return cached + written.tokens
        if is_miss(self.tokens or 0, cached):  # what it should have held it did not
            return cached
        return 0 if prompt is not None and prompt < MIN_CACHED_TOKENS and not cached else _ALL

    def _scaled_ends(self, prompt: int | None) -> list[float]:
        """Return where each key ends, in the tokens of the upstream."""
        ours = self.ends[-1] if self.ends else 0
        scale = prompt / ours if prompt and ours else 1.0
        return [end * scale * _SLACK for end in self.ends]


_ALL = float("inf")
_SLACK = 0.9
"""Our counts are estimates; and what stands behind the last block is no part of the path."""

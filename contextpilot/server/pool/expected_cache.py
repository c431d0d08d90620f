"""What an upstream that tells nothing should have had of a prompt in its cache, to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contextpilot.block import BlockKey
from contextpilot.planning import Job, Planned
from contextpilot.server.pool.prompt_path import ends_of, path_of
from contextpilot.server.pool.sync_by_age import SyncByAge


@dataclass(frozen=True)
class Expectation:
    """What was believed of one request before it went to its upstream.

    Attributes:
        tokens: of its prompt in the cache; None when that cannot be counted.
        age_s: seconds since these were last used.
    """

    sync: SyncByAge
    namespace: str
    keys: Sequence[BlockKey]
    tokens: int | None
    age_s: float

    @classmethod
    def of(cls, sync: SyncByAge, job: Job, planned: Planned) -> Expectation:
        """Return what is believed of a planned request that was not sent yet."""
        keys = path_of(job, planned)
        number, age = sync.known(job.namespace, keys)
        expected = ends_of(job, planned)[number - 1] if number else 0
        if 0 < number < len(job.head.keys):  # a head has one count: its parts are not known
            return cls(sync, job.namespace, keys, None, age)
        return cls(sync, job.namespace, keys, expected, age)

    def confirm(self) -> None:
        """Note that the upstream read the prompt: its prefixes live on from now."""
        self.sync.note(self.namespace, self.keys)

    def compare(self, cached_tokens: int) -> None:
        """Learn from what the upstream says."""
        if self.tokens is not None:
            self.sync.learn(self.tokens, cached_tokens, self.age_s)

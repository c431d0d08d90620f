"""Whether an engine's KV events and its hooks say the same of its requests."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from contextpilot.sync.sources.kv_events.chains import Chains

_MAX_CHECKED = 1000


class Agreement:
    """Compares what is held of the newest requests, each time that it is asked.

    Both sides are on their way, so only what was the same for both twice in a row counts.
    """

    def __init__(self) -> None:
        self._before: dict[str, tuple[int, int]] = {}
        self._num_agreed = self._num_differing = 0

    def compare(self, chains: Chains, held: Callable[[str], int | None]) -> None:
        """Compare once; `held`: the tokens that the hooks told of a request last, None: nothing."""
        now: dict[str, tuple[int, int]] = {}
        for request in islice(reversed(chains.requests()), _MAX_CHECKED):
            ours, theirs = chains.held_tokens(request), held(request)
            if ours is not None and theirs is not None:
                now[request] = ours, theirs
        still = [pair for request, pair in now.items() if self._before.get(request) == pair]
        size = max(1, chains.block_size)
        differing = sum(abs(ours - theirs) >= size for ours, theirs in still)
        self._num_agreed, self._num_differing = len(still) - differing, differing
        self._before = now

    def state(self) -> dict[str, int]:
        """Return of how many requests both sides said the same, and of how many not."""
        return {"num_agreed": self._num_agreed, "num_differing": self._num_differing}

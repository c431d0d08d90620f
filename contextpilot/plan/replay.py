"""Replays recorded requests through a prefix cache, planned in one of several ways.

| mode   | each request is planned                        | the planner knows evictions |
|--------|------------------------------------------------|-----------------------------|
| plain  | not at all: order as given                     |                             |
| online | alone, in order of arrival                     | no                          |
| synced | alone, in order of arrival                     | yes                         |
| window | with the `window` requests that wait beside it | yes                         |
| batch  | with all others                                | no (it needs none)          |
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Literal, TypeAlias, get_args

from contextpilot.block import Block, unique
from contextpilot.index import ContextIndex
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import OnlinePlanner, Plan
from contextpilot.plan.simulate import CacheTotals, PrefixCache
from contextpilot.plan.support import SupportWindow

Mode: TypeAlias = Literal["plain", "online", "synced", "window", "batch"]
MODES: tuple[Mode, ...] = get_args(Mode)
DEFAULT_WINDOW = 16
_QUESTION = 1
"""Tokens behind the blocks: where a prompt ends, which nobody else shares."""

Progress = Callable[[int, int], None]
Contexts = Sequence[Sequence[Block]]
_Step = tuple[int, Plan]


def replay(
    contexts: Contexts,
    mode: Mode,
    capacity: int | None = None,
    window: int = DEFAULT_WINDOW,
    *,
    bounds: Bounds | None = None,
    progress: Progress | None = None,
    is_sparse: bool = False,
) -> CacheTotals:
    """Replay contexts, in order of arrival, through one cache; see `replay_each`.

    Args:
        capacity: tokens that the cache holds; None for no bound.
    """
    [totals] = replay_each(
        contexts, mode, [capacity], window, bounds=bounds, progress=progress, is_sparse=is_sparse
    )
    return totals


def replay_each(
    contexts: Contexts,
    mode: Mode,
    capacities: Sequence[int | None],
    window: int = DEFAULT_WINDOW,
    *,
    bounds: Bounds | None = None,
    progress: Progress | None = None,
    is_sparse: bool = False,
) -> list[CacheTotals]:
    """Replay contexts through a cache of each capacity; return the sums, one for each.

    Later copies of a block within a context are left out. Modes whose plans do not depend on the
    cache are planned once for all capacities.

    Args:
        contexts: the blocks of each request, most relevant first, in order of arrival.
        mode: one of `MODES`.
        capacities: tokens that each cache holds between requests; None for no bound.
        window: requests that are planned together in the mode "window".
        bounds: how far blocks may move; default as for `ContextPilot`.
        progress: called as `progress(done, total)`, in any unit, at last with both equal.
        is_sparse: the caches can be reused at few points only; see `PrefixCache`.

    Raises:
        ValueError: `mode` is unknown, `window` is below 1, or a capacity is negative.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
    if window < 1:
        raise ValueError(f"window must be at least 1, but is {window}")
    requests = [unique(context) for context in contexts]
    run = _Run(requests, mode, window, bounds or Bounds(), is_sparse)
    if mode in ("synced", "window"):
        return [
            run.through([capacity], _part(progress, i, len(capacities)), feed_back=True)[0]
            for i, capacity in enumerate(capacities)
        ]
    return run.through(capacities, progress, feed_back=False)


def hit_bound(contexts: Contexts) -> CacheTotals:
    """Return the most hit tokens that any plan can reach, in a cache of any capacity.

    The weight of the maximum spanning forest over the pairwise overlaps of the contexts.
    """
    import numpy as np

    from contextpilot.plan.overlaps.base import set_matrix
    from contextpilot.plan.overlaps.bound import spanning_bound

    numbers: dict[Hashable, int] = {}
    weights: list[int] = []
    sets = []
    for context in contexts:
        for block in context:
            if numbers.setdefault(block.key, len(weights)) == len(weights):
                weights.append(block.weight)
        sets.append(np.array(sorted({numbers[block.key] for block in context}), np.int64))
    tokens = sum(weights[number] for numbers_of in sets for number in numbers_of.tolist())
    if not weights:
        return CacheTotals(0, 0)
    return CacheTotals(
        tokens, spanning_bound(set_matrix(sets, len(weights)), np.array(weights, np.int64))
    )


class _Run:
    """One workload and how it is planned."""

    def __init__(
        self,
        contexts: list[list[Block]],
        mode: Mode,
        window: int,
        bounds: Bounds,
        is_sparse: bool,
    ) -> None:
        self._contexts = contexts
        self._mode = mode
        self._window = window
        self._bounds = bounds
        self._is_sparse = is_sparse
        self._weights = {block.key: block.weight for context in contexts for block in context}

    def through(
        self, capacities: Sequence[int | None], progress: Progress | None, *, feed_back: bool
    ) -> list[CacheTotals]:
        """Run the plans through caches of these capacities; the planner hears of evictions."""
        planner = OnlinePlanner(ContextIndex(), SupportWindow())
        planned: Progress | None = None
        if self._mode == "batch":
            planned, progress = _part(progress, 0, 2), _part(progress, 1, 2)
        lost: dict[Hashable, int] = {}

        def note(name: Hashable, tokens: int) -> None:
            lost[name] = min(tokens, lost.get(name, tokens))

        knows_points = feed_back and self._is_sparse
        planner.index.describe(1, 0, knows_points)
        evicted = note if feed_back else None
        caches = [PrefixCache(capacity, evicted, self._is_sparse) for capacity in capacities]
        for done, (position, plan) in enumerate(self._steps(planner, planned), start=1):
            context, name = self._contexts[position], str(position)
            if self._mode != "plain":
                planner.learn(context, plan, name, tail_tokens=_QUESTION * knows_points)
            keys = [context[rank].key for rank in plan.order]
            for cache in caches:
                cache.request(keys, self._weights, name)
            if knows_points:
                self._tell(planner.index, name, keys, caches[0].points)
            for request, tokens in lost.items():
                planner.index.truncate(str(request), tokens)
            lost.clear()
            if progress is not None:
                progress(done, len(self._contexts))
        return [cache.totals for cache in caches]

    def _tell(
        self, index: ContextIndex, name: str, keys: Sequence[Hashable], points: Sequence[int]
    ) -> None:
        """Tell the planner where a request that ran can be reused, as an engine's hook does."""
        whole = sum(self._weights[key] for key in keys) + _QUESTION
        ends = (*((end, end) for end in points), (whole, whole))
        index.add_cached(name, whole, whole, points=ends)

    def _steps(self, planner: OnlinePlanner, progress: Progress | None) -> Iterator[_Step]:
        """Yield positions and plans in execution order; each is learnt before the next."""
        contexts = self._contexts
        if self._mode in ("window", "batch"):
            yield from self._planned_together(planner, progress)
            return
        for position, context in enumerate(contexts):
            if self._mode == "plain":
                yield position, Plan(tuple(range(len(context))), 0)
            else:
                yield position, planner.plan(context, self._bounds)

    def _planned_together(
        self, planner: OnlinePlanner, progress: Progress | None
    ) -> Iterator[_Step]:
        from contextpilot.plan.batch import BatchPlanner

        together = BatchPlanner(planner)
        size = max(1, len(self._contexts)) if self._mode == "batch" else self._window
        for start in range(0, len(self._contexts), size):
            waiting = self._contexts[start : start + size]
            groups = together.prepare(waiting, self._bounds, progress=progress)
            for position, plan in together.walk(waiting, groups, self._bounds):
                yield start + position, plan


def _part(progress: Progress | None, part: int, parts: int) -> Progress | None:
    """Return a callback for one of several equal parts of the work that `progress` shows."""
    if progress is None:
        return None
    return lambda done, total: progress(part * total + done, parts * total)

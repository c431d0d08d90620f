"""What a move costs, and which blocks may lead a prompt for what they gain.

The order in which blocks were retrieved carries meaning, the more so among the most relevant. So
a plan pays for every pair of blocks whose order it turns round: moving the most relevant block
from the first to the last of n places costs `displacement_cost` tokens and a little for those
that move up by one place.

Leads are chosen from candidates that do not depend on the cost, by what they gain less what they
cost; so a higher cost never displaces more.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate
from math import exp

from contextpilot.block import BlockKey
from contextpilot.plan.placeable import Placeable
from contextpilot.plan.support import Neighbours

_SURE = 0.45
"""What a token that all neighbours hold is worth: it may be asked for again, or evicted before."""
_THRIFTY = 2.0
"""Blocks of mean weight that moving the best one costs, in the lead that spares displacement."""
_DECAY = 0.25
"""Relevance falls with the rank to this power."""
_MANY = 512
"""Blocks from which on sums over those that are placed are kept in a tree: the others are faster
without, but together take time with the square."""
_LIKING = 0.1
"""Where support is about equal, rank decides: what the best block counts more, in neighbours."""


Step = tuple[BlockKey, float, float]
"""A block that comes next in a lead, the tokens it gains, and what it displaces."""


@lru_cache(maxsize=256)
def relevances(count: int) -> tuple[float, ...]:
    """Return what it costs each rank of `count` blocks to change places with one other."""
    return tuple((1 + rank) ** -_DECAY / max(1, count - 1) for rank in range(count))


@lru_cache(maxsize=256)
def _likings(count: int) -> tuple[float, ...]:
    """Return what blocks of each rank count more than the support they have."""
    return tuple(_LIKING * exp(-rank / count) for rank in range(count))


def displacement(order: Sequence[int]) -> float:
    """Return what a permutation of ranks displaces: 1 for the most relevant block put last.

    It is the sum, over all pairs whose order is turned round, of both ranks' relevances.
    """
    waiting = Waiting(relevances(len(order)))
    return sum(waiting.take(rank) for rank in order)


def displaces(order: Sequence[int], least: float) -> bool:
    """Return whether a permutation displaces at least so much; see `displacement`."""
    waiting, moved = Waiting(relevances(len(order))), 0.0
    for rank in order:
        moved += waiting.take(rank)
        if moved >= least:
            return True
    return False


class Waiting:
    """Blocks that are not placed yet.

    Args:
        relevance: by original rank.
        taken: ranks that are placed already.
    """

    def __init__(self, relevance: Sequence[float], taken: Iterable[int] = ()) -> None:
        self._relevance = relevance
        self._before = list(accumulate(relevance, initial=0.0))
        self._taken = sorted(taken)
        self._sums = [0.0] * (len(relevance) + 1) if len(relevance) >= _MANY else []
        for rank in self._taken if self._sums else ():
            self._add(rank)

    def price(self, rank: int) -> float:
        """Return what placing a block next would displace."""
        gone = bisect_left(self._taken, rank)
        passed = rank - gone
        if not passed:
            return 0.0
        relevance = self._relevance
        displaced = relevance[rank] * passed + self._before[rank]
        if self._sums:
            return displaced - self._placed_before(rank)
        return displaced - sum([relevance[other] for other in self._taken[:gone]])

    def take(self, rank: int) -> float:
        """Place a block next; return what that displaces."""
        displaced = self.price(rank)
        insort(self._taken, rank)
        if self._sums:
            self._add(rank)
        return displaced

    def _add(self, rank: int) -> None:
        """Count a placed block in the sums, a Fenwick tree."""
        sums, relevance, at = self._sums, self._relevance[rank], rank + 1
        while at < len(sums):
            sums[at] += relevance
            at += at & -at

    def _placed_before(self, rank: int) -> float:
        """Return the relevance of the placed blocks of lower rank together."""
        sums, total, at = self._sums, 0.0, rank
        while at:
            total += sums[at]
            at -= at & -at
        return total


class Candidates:
    """Ways to begin a prompt with some of the blocks `keys` of a context, in original order.

    Args:
        near: what tells which blocks of the whole context occur together.
        placed: blocks that stand before them in any case.
    """

    def __init__(
        self,
        keys: Sequence[BlockKey],
        context: Placeable,
        near: Neighbours,
        placed: Sequence[BlockKey],
    ) -> None:
        ranks, masks = context.ranks, near.masks
        self._near = near
        self._together = near.all
        for key in placed:
            self._together &= masks[ranks[key]] if key in ranks else 0
        self._keys = keys
        self._relevance: Sequence[float] = relevances(len(masks))
        self._weights: Sequence[int] = [*context.weights.values()]
        self._masks = masks
        self._place = ranks
        if len(keys) < len(masks):
            own = [ranks[key] for key in keys]
            self._relevance = [self._relevance[rank] for rank in own]
            self._weights = [self._weights[rank] for rank in own]
            self._masks = [masks[rank] for rank in own]
            self._place = dict(zip(keys, range(len(keys)), strict=True))

    def full(self, live: Sequence[BlockKey]) -> list[Step]:
        """Return the lead that gains most: what is live, then what has most support."""
        waiting = Waiting(self._relevance)
        together, steps = self._together, list[Step]()
        for key in live:
            i = self._place[key]
            steps.append((key, self._weights[i], waiting.take(i)))
            together &= self._masks[i]
        share, nearest = self._near.share, self._near.nearest
        alone, likings = nearest(together), _likings(len(self._keys))
        heap, taken = [], {*live}
        for i, mask in enumerate(self._masks):
            joint = together & mask
            if joint and self._keys[i] not in taken:
                heap.append((-share(joint) - alone * likings[i], i, together))
        heapq.heapify(heap)
        while heap:  # what is stale is an upper bound: support only falls while blocks are placed
            _, i, among = heap[0]
            joint = together & self._masks[i]
            if among is together:
                heapq.heappop(heap)
                gain = _SURE * share(joint) * self._weights[i]
                steps.append((self._keys[i], gain, waiting.take(i)))
                together = joint
                alone = nearest(together)
            elif not joint:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (-share(joint) - alone * likings[i], i, together))
        return steps

    def thrifty(self, live: Sequence[Step]) -> list[Step]:
        """Return a lead in which each block gains most for what it displaces."""
        cost = _THRIFTY * sum(self._weights) / max(1, len(self._weights))
        steps = list(live[: worthwhile(live, cost, 0.0)[0]])
        taken = [self._place[key] for key, _, _ in steps]
        together = self._together
        for i in taken:
            together &= self._masks[i]
        waiting, left = (
            Waiting(self._relevance, taken),
            sorted({*range(len(self._keys))} - {*taken}),
        )
        while together:
            i, gain = self._next(left, together, cost)
            if not gain:
                break
            left.remove(i)
            steps.append((self._keys[i], gain, waiting.take(i)))
            together &= self._masks[i]
        return steps

    def _next(self, ranks: Sequence[int], together: int, cost: float) -> tuple[int, float]:
        """Return the block to place next and its gain; 0 when none is worth its move."""
        most = _SURE * self._near.share(together)
        heaviest = most * max([self._weights[i] for i in ranks], default=0)
        best, chosen, passed = 0.0, (-1, 0.0), 0.0
        for before, i in enumerate(ranks):
            if heaviest - passed <= best:
                break
            price = passed + cost * self._relevance[i] * before
            passed += cost * self._relevance[i]
            joint = together & self._masks[i]
            if joint and most * self._weights[i] - price > best:
                gain = _SURE * self._near.share(joint) * self._weights[i]
                if gain - price > best:
                    best, chosen = gain - price, (i, gain)
        return chosen


def worthwhile(lead: Sequence[Step], cost: float, least: float) -> tuple[int, float]:
    """Return how much of a lead is worth most at this cost, and that; none if not above `least`."""
    worth, best, length = 0.0, least, 0
    for number, (_, gain, displaced) in enumerate(lead, start=1):
        worth += gain - cost * displaced
        if worth > best:
            best, length = worth, number
    return length, best


def best_lead(
    candidates: Candidates, full: Sequence[Step], num_live: int, cost: float, least: float
) -> list[BlockKey]:
    """Return the head of a candidate that is worth most at this cost; [] if none is worth more.

    Args:
        full: the candidate that gains most; of the thrifty one counts what displaces no more.
        num_live: how many of its blocks are live.
        least: tokens that the original order is worth: what of it is live.
    """
    length, worth = worthwhile(full, cost, least)
    if length == len(full):  # so it is at every lower cost, too
        return [step[0] for step in full]
    thrifty, bound = candidates.thrifty(full[:num_live]), sum([step[2] for step in full])
    while sum([step[2] for step in thrifty]) > bound + 1e-9:
        thrifty.pop()
    other, _ = worthwhile(thrifty, cost, worth)
    chosen = thrifty[:other] if other else full[:length]
    return [step[0] for step in chosen]

"""The ledger of a cache that can be reused at certain lengths only (hybrid models in vLLM).

Layers with a sliding window need the last blocks before a length, layers with a state (Mamba,
linear attention) the one state that ends there, so of a cached prompt not every prefix can be
reused. Its points are the lengths that can: a later prompt which is the same up to a point, or
beyond, reuses all of it but the last `dropped` tokens.

What changes at a block touches no point before it, so only what follows is asked for again. Where
a point implies that blocks before it are cached (`floor`), the engine is asked for few of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple

from .blocks import MAX_BLOCKS, Block, BlockLedger, Chain
from .ledger import MAX_REQUESTS, Mark, Points, limited

_ASKED = 64
"""What one question counts as, in blocks looked at."""


class Cache(NamedTuple):
    """What is asked of an engine's cache, on the reporter's thread; lengths are in tokens.

    unit: tokens of one key's block. step: what all points are multiples of, and of `unit`.
    dropped: tokens before a point that are computed anew (EAGLE, MTP), a multiple of `step`.
    reuse: how much a prompt reuses that has these keys, and then others that nobody has.
    state: anything that differs when the engine caches a key in another way than before.
    floor: a length below the given one, which can be reused: of those from there up to it, if one
        can be reused all longer ones can.

    All may raise while the engine changes its tables; they are asked again then.
    """

    unit: int
    step: int
    dropped: int
    reuse: Callable[[Sequence[Hashable]], int]
    state: Callable[[Hashable], Hashable]
    floor: Callable[[int], int]


class PointLedger(BlockLedger):
    """The points of each request. Bounds as of `BlockLedger`."""

    def __init__(
        self, cache: Cache, max_requests: int = MAX_REQUESTS, max_blocks: int = MAX_BLOCKS
    ) -> None:
        super().__init__(cache.unit, max_requests, max_blocks)
        self.cache = cache

    def _start_over(self) -> None:
        super()._start_over()
        self._touched: set[Block] = set()  # changed, though they are as they were
        self._recent: set[Chain] = set()  # asked for, maybe while the engine changed something

    def _refresh(self, keys: Iterable[Hashable], flipped: set[Block]) -> None:
        blocks = self._blocks
        for key in dict.fromkeys(keys):  # each kind of layers names it
            block = blocks.get(key)
            if block is not None:
                state = self._ask(self.cache.state, key)
                (flipped if state is None or state != block.cached else self._touched).add(block)
                block.cached = state
            self._worked(1)

    def _probe_all(self, flipped: set[Block]) -> None:
        super()._probe_all(flipped)
        flipped.update(self._root.below())

    def _settle(self, flipped: set[Block]) -> None:
        lowest = self._behind(flipped)
        touched, self._touched = self._touched, set()
        recent, self._recent = self._recent, set()
        for chain in recent if touched else ():
            block = chain.last
            while block.parent is not None:
                if block in touched:
                    lowest[chain] = min(lowest.get(chain, block.position), block.position)
                block = block.parent
        for chain, position in lowest.items():
            if self._chains.get(chain.request) is not chain:
                continue
            points, length = chain.points, chain.length
            self._measure(chain, position)
            if chain.points != points:
                self._tell(chain, shrunk=chain.length < length)
            if chain.length:
                self._dead.pop(chain.request, None)
            elif length:
                self._dead[chain.request] = None

    def _behind(self, flipped: set[Block]) -> dict[Chain, int]:
        """The requests that go through one of these blocks, and the position of the first."""
        lowest: dict[Chain, int] = {}
        seen: set[Block] = set()
        for first in sorted(flipped, key=lambda block: block.position):
            stack = [first]
            while stack:
                block = stack.pop()
                if block not in seen:
                    seen.add(block)
                    lowest.update((chain, first.position) for chain in block.ends or ())
                    stack.extend(block.below())
                    self._worked(1)
        return lowest

    def _measure(self, chain: Chain, start: int) -> None:
        keys, block = [], chain.last
        while block.parent is not None:
            keys.append(block.key)
            block = block.parent
        keys.reverse()
        chain.points = self._points(keys, chain.points, start)
        chain.length = chain.points[-1][1] // self.block_size if chain.points else 0
        self._recent.add(chain)

    def _points(self, keys: list[Hashable], known: Points, start: int) -> Points:
        """The points of a prompt, of which those that end before block `start` are known."""
        unit, step, dropped = self.cache[:3]
        low = start * unit // step * step
        found: list[tuple[int, int]] = []  # the last range first
        length = len(keys) * unit // step * step
        while length > low:
            reach = self._reuse(keys, length)
            if reach <= 0:
                break
            if reach != length - dropped:
                length = min(length - step, reach + dropped)
                continue
            first = self._first(keys, length, low)
            if found and found[-1][0] == length + step:
                found[-1] = first, found[-1][1]
            else:
                found.append((first, length))
            length = first - step
        kept = [(first, min(last, low)) for first, last in known if first <= low]
        if found and kept and kept[-1][1] + step == found[-1][0]:
            found[-1] = kept.pop()[0], found[-1][1]
        return limited((*kept, *reversed(found)))

    def _first(self, keys: list[Hashable], length: int, low: int) -> int:
        """The first point from which on all up to `length` are points, as far as is implied."""
        step, dropped = self.cache.step, self.cache.dropped
        floor = -(-self.cache.floor(length - dropped) // step) * step + dropped
        bottom, top = max(floor, low + step, step + dropped), length
        middle = bottom
        while bottom < top:
            if self._reuse(keys, middle) == middle - dropped:
                top = middle
            else:
                bottom = middle + step
            middle = (bottom + top) // 2 // step * step
        return top

    def _reuse(self, keys: list[Hashable], length: int) -> int:
        self._worked(_ASKED)
        reach = self._ask(self.cache.reuse, keys[: length // self.cache.unit])
        return reach if isinstance(reach, int) else 0

    def _ask(self, question: Callable[..., Hashable], about: object) -> Hashable:
        for _ in range(16):
            try:
                return question(about)
            except Exception:
                time.sleep(0)
        self._stale = True  # to be asked again at the next take
        return None

    def _tell(self, chain: Chain, shrunk: bool = False) -> None:
        tokens = chain.length * self.block_size
        self._mark(chain.request, Mark(tokens, chain.prompt_tokens, shrunk, points=chain.points))

    def _clear_chain(self, chain: Chain, first: Block) -> None:  # noqa: ARG002
        chain.points, chain.length = (), 0

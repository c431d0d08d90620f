"""The ledger of a cache in which every prefix of what is cached can be reused (vLLM).

A request's number is the position of its first block that is not cached, its gap: a hole may appear
anywhere. Whoever has its gap at a block waits there, in case it comes back.

    ledger = ChainLedger(block_size=16, probe=lambda key: ...)
    ledger.hand_over(Step(registered=[...], changed=[...]))   # after it happened
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Iterator

from .blocks import MAX_BLOCKS, Block, BlockLedger, Chain
from .ledger import MAX_REQUESTS, Mark


class ChainLedger(BlockLedger):
    """One number a request: the leading tokens of its prompt that are in the cache.

    `probe(key)` tells whether the engine caches `key` now; it is called on the reporter's thread,
    after the hand-over of each change, and may raise RuntimeError when the engine changes its
    tables meanwhile: it is then asked again. All else as of `BlockLedger`; a block's `cached` is
    None behind a gap of every request.
    """

    def __init__(
        self,
        block_size: int,
        probe: Callable[[Hashable], bool],
        max_requests: int = MAX_REQUESTS,
        max_blocks: int = MAX_BLOCKS,
    ) -> None:
        super().__init__(block_size, max_requests, max_blocks)
        self._probe = probe

    def _start_over(self) -> None:
        super()._start_over()
        self._missing: set[Block] = set()  # changed, and not cached: may have come and gone

    def _refresh(self, keys: Iterable[Hashable], flipped: set[Block]) -> None:
        blocks = self._blocks
        for key in keys:
            block = blocks.get(key)
            if block is not None:
                self._look_at(block, flipped)
            self._worked(1)

    def _look_at(self, block: Block, flipped: set[Block]) -> None:
        cached = self._is_cached(block.key)
        if not cached:
            self._missing.add(block)
        # A block that others wait for may have come and gone since they were told of.
        if block.cached is not None and (block.cached != cached or (block.waiting and not cached)):
            block.cached = cached
            flipped.add(block)

    def _settle(self, flipped: set[Block]) -> None:
        """Cut those behind what went, the last blocks first; then measure behind what came."""
        came = []
        missing, self._missing = self._missing, set()
        for block in sorted(flipped, key=_position, reverse=True):
            if block.cached:
                came.append(block)
                continue
            for chain in list(self._behind(block)):
                self._wait(chain, block)
                self._tell(chain, shrunk=True)
                self._dead.update({} if chain.length else {chain.request: None})
        for block in reversed(came):
            for chain in list(block.waiting or ()):
                self._measure(chain, block.position)
                self._tell(chain, shrunk=bool(missing) and _goes_through(chain, missing))
                if chain.length:
                    self._dead.pop(chain.request, None)

    def _behind(self, block: Block) -> Iterator[Chain]:
        """The requests whose gap is at a block, or which had all up to it and beyond."""
        stack = [block]
        while stack:
            found = stack.pop()
            yield from found.waiting or ()
            if found is block or found.cached:
                yield from (chain for chain in found.ends or () if chain.gap is None)
                stack.extend(found.below())
            self._worked(1)

    def _is_cached(self, key: Hashable) -> bool:
        for _ in range(16):
            try:
                return self._probe(key)
            except (RuntimeError, StopIteration):
                time.sleep(0)
        self._stale = True  # to be asked again at the next take
        return False

    def _measure(self, chain: Chain, start: int) -> None:
        """Find the gap of a request, all of whose blocks before `start` are cached."""
        path, block = [], chain.last
        while block.position >= start:
            path.append(block)
            block = block.parent or self._root
        for block in reversed(path):
            if block.cached is None:
                block.cached = self._is_cached(block.key)
            if not block.cached:
                self._wait(chain, block)
                break
        else:
            self._wait(chain, None)
        self._worked(len(path))

    def _wait(self, chain: Chain, gap: Block | None) -> None:
        if chain.gap is not None and chain.gap.waiting is not None:
            chain.gap.waiting.pop(chain, None)
            chain.gap.waiting = chain.gap.waiting or None
        chain.gap = gap
        if gap is None:
            chain.length = chain.last.position + 1
        else:
            chain.length = gap.position
            gap.waiting = gap.waiting or {}
            gap.waiting[chain] = None

    def _tell(self, chain: Chain, shrunk: bool = False) -> None:
        self._mark(chain.request, Mark(chain.length * self.block_size, chain.prompt_tokens, shrunk))

    def _detach(self, chain: Chain) -> None:
        self._wait(chain, None)

    def _clear_chain(self, chain: Chain, first: Block) -> None:
        self._wait(chain, first)


def _goes_through(chain: Chain, blocks: set[Block]) -> bool:
    """Whether one of these blocks stands at the gap of a request, or behind it."""
    block: Block | None = chain.last
    while block is not None and block.position >= chain.length:
        if block in blocks:
            return True
        block = block.parent
    return False


def _position(block: Block) -> int:
    return block.position

"""The ledger of an engine whose cache maps chained block hashes to blocks (vLLM).

A block's key is chained over all tokens before it, so a key has one position in every prompt that
holds it, and requests with a common prefix share its `_Block`. A request's number is the position
of its first block that is not cached: a hole may appear anywhere, so it is not a binary search.

    ledger = ChainLedger(block_size=16, probe=lambda key: ...)
    ledger.hand_over(Step(registered=[...], changed=[...]))   # after it happened

Every change is handed over after it happened and the engine is asked after that, so the last
answer about a key is right, whatever the two threads did in between.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable
from typing import NamedTuple

from .ledger import MAX_REQUESTS, Event, Ledger, Mark

MAX_BLOCKS = 1 << 20
"""Bound on the summed chain lengths: about 150 MB when nothing is shared."""
_MAX_STEPS = 8192
_SLICE = 512


class Registered(NamedTuple):
    """A request with our id, and the keys of its prompt's full blocks, first to last."""

    request: str
    keys: list[Hashable]
    prompt_tokens: int


class Step(NamedTuple):
    """What one scheduled step did: new requests, and keys that came into or left the cache.

    Both are the ledger's from the hand-over on; it iterates over them on the reporter's thread.
    """

    registered: list[Registered]
    changed: Iterable[Hashable]


class _Block:
    __slots__ = ("cached", "chains", "position", "users")

    def __init__(self, position: int) -> None:
        self.position = position
        self.cached: bool | None = None  # None: behind a gap in every chain, so nobody asked yet
        self.chains: list[_Chain] = []  # some may have been dropped since
        self.users = 0


class _Chain:
    __slots__ = ("blocks", "keys", "length", "prompt_tokens", "request")

    def __init__(self, request: str, keys: list[Hashable], prompt_tokens: int) -> None:
        self.request = request
        self.keys = keys
        self.prompt_tokens = prompt_tokens
        self.blocks: list[_Block] = []
        self.length = 0  # leading blocks in the cache


class ChainLedger(Ledger):
    """Works out the requests behind cached and evicted keys, on the reporter's thread.

    `probe(key)` tells whether the engine caches `key` now; it is called on the reporter's thread,
    after the hand-over of each change, and may raise RuntimeError when the engine changes its
    tables meanwhile: it is then asked again. `block_size` is in tokens.
    """

    def __init__(
        self,
        block_size: int,
        probe: Callable[[Hashable], bool],
        max_requests: int = MAX_REQUESTS,
        max_blocks: int = MAX_BLOCKS,
    ) -> None:
        super().__init__(max_requests)
        if block_size < 1:
            raise ValueError(f"block_size must be at least 1 token, got {block_size}")
        self.block_size = block_size
        self.max_blocks = max_blocks
        self._probe = probe
        self._steps: deque[Step | None] = deque()  # None: the cache was reset
        self._stale = False
        self._blocks: dict[Hashable, _Block] = {}
        self._chains: OrderedDict[str, _Chain] = OrderedDict()
        self._chained = 0  # summed chain lengths
        self._work = 0

    # On the scheduler's thread.

    def hand_over(self, step: Step) -> None:
        """Queue one step; a full queue is dropped and everything is probed anew."""
        if len(self._steps) >= _MAX_STEPS:
            self._steps.clear()
            self._stale = True
        self._steps.append(step)
        self.on_change()

    def clear(self) -> None:
        """Note that the whole cache was reset."""
        self._steps.append(None)
        self.on_change()

    def invalidate(self) -> None:
        """A change may have been missed: have every block probed anew."""
        self._stale = True
        self.on_change()

    # On the reporter's thread.

    def take(self) -> list[Event]:
        self.settle()
        return super().take()

    def forget(self) -> None:
        super().forget()
        self._steps = deque()
        self._blocks = {}
        self._chains = OrderedDict()
        self._chained = 0
        self._stale = False

    def settle(self) -> None:
        flipped: set[_Block] = set()
        for _ in range(len(self._steps)):
            try:
                step = self._steps.popleft()
            except IndexError:
                break
            if step is None:
                flipped.clear()
                self._reset()
                continue
            for registered in step.registered:
                self._register(registered)
            self._refresh(step.changed, flipped)
        self._settle(flipped)
        if self._stale:
            self._stale = False
            self._probe_all()

    def _refresh(self, keys: Iterable[Hashable], flipped: set[_Block]) -> None:
        blocks = self._blocks
        for key in keys:
            block = blocks.get(key)
            if block is not None and block.cached is not None:
                cached = self._is_cached(key)
                if block.cached != cached:
                    block.cached = cached
                    flipped.add(block)
            self._worked(1)

    def _settle(self, flipped: set[_Block]) -> None:
        # First blocks first: then each chain is cut, or measured, once.
        for block in sorted(flipped, key=_position):
            position = block.position
            for chain in block.chains:
                if not block.cached and chain.length > position:
                    chain.length = position
                    self._tell(chain)
                elif block.cached and chain.length == position and chain.blocks:
                    self._measure(chain, position)
            self._worked(len(block.chains))

    def _worked(self, units: int) -> None:
        """Let the scheduler have the interpreter after every so much work, but not more often.

        Each time may cost this thread a whole switch interval (5 ms) when the scheduler is busy.
        """
        self._work += units
        if self._work >= _SLICE:
            self._work = 0
            time.sleep(0)

    def _is_cached(self, key: Hashable) -> bool:
        for _ in range(16):
            try:
                return self._probe(key)
            except (RuntimeError, StopIteration):
                time.sleep(0)
        self._stale = True  # to be asked again at the next take
        return False

    def _measure(self, chain: _Chain, start: int) -> None:
        length = start
        for block in chain.blocks[start:]:
            if block.cached is None:
                block.cached = self._is_cached(chain.keys[length])
            if not block.cached:
                break
            length += 1
        chain.length = length
        self._tell(chain)

    def _tell(self, chain: _Chain) -> None:
        tokens = chain.length * self.block_size
        self._mark(chain.request, Mark(tokens, chain.prompt_tokens))

    def _register(self, new: Registered) -> None:
        keys = new.keys
        old = self._chains.get(new.request)
        if old is not None and old.keys == keys:
            self._chains.move_to_end(new.request)
            return
        if old is not None:
            self._drop(old)
        chain = _Chain(new.request, keys, new.prompt_tokens)
        for position, key in enumerate(keys):
            block = self._blocks.get(key)
            if block is None:
                block = self._blocks[key] = _Block(position)
            block.chains.append(chain)
            block.users += 1
            chain.blocks.append(block)
        self._chains[new.request] = chain
        self._chained += len(keys)
        self._worked(len(keys))
        self._measure(chain, 0)
        while len(self._chains) > self.max_requests or (
            self._chained > self.max_blocks and len(self._chains) > 1
        ):
            self.dropped += 1
            self._drop(next(iter(self._chains.values())))

    def _drop(self, chain: _Chain) -> None:
        del self._chains[chain.request]
        self._chained -= len(chain.blocks)
        for key, block in zip(chain.keys, chain.blocks, strict=True):
            block.users -= 1
            if block.users == 0:
                del self._blocks[key]
        blocks, chain.blocks, chain.length = chain.blocks, [], 0
        for block in blocks:
            if len(block.chains) > 2 * block.users + 4:
                block.chains = [user for user in block.chains if user.blocks]
        self._tell(chain)

    def _reset(self) -> None:
        for block in self._blocks.values():
            block.cached = False
        for chain in self._chains.values():
            chain.length = 0
        self._clear_marks()

    def _probe_all(self) -> None:
        for key, block in self._blocks.items():
            if block.cached is not None:
                block.cached = self._is_cached(key)
            self._worked(1)
        for chain in self._chains.values():
            self._measure(chain, 0)


def _position(block: _Block) -> int:
    return block.position

"""The ledger of an engine whose cache maps chained block hashes to blocks (vLLM).

A block's key is chained over all tokens before it, so it has one position and one block before it
in every prompt that holds it: the blocks are a tree, and what prompts share is there once. A
request's number is the position of its first block that is not cached, its gap: a hole may appear
anywhere. Whoever has its gap at a block waits there, in case it comes back.

    ledger = ChainLedger(block_size=16, probe=lambda key: ...)
    ledger.hand_over(Step(registered=[...], changed=[...]))   # after it happened

Every change is handed over after it happened and the engine is asked after that, so the last
answer about a key is right, whatever the two threads did in between.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import NamedTuple

from .ledger import MAX_REQUESTS, Event, Ledger, Mark

MAX_BLOCKS = 1 << 20
"""Bound on distinct blocks: some 220 MB; 16 million tokens in blocks of 16."""
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
    """`cached` is None behind a gap of every request: nobody asked yet."""

    __slots__ = ("cached", "children", "ends", "key", "parent", "position", "waiting")

    def __init__(self, key: Hashable, parent: _Block | None, position: int) -> None:
        self.key = key
        self.parent = parent
        self.position = position
        self.cached: bool | None = None
        self.children: _Block | dict[_Block, None] | None = None  # mostly one
        self.ends: dict[_Chain, None] | None = None  # requests whose last block it is
        self.waiting: dict[_Chain, None] | None = None  # requests whose gap it is

    def adopt(self, child: _Block) -> None:
        if self.children is None:
            self.children = child
        elif isinstance(self.children, dict):
            self.children[child] = None
        else:
            self.children = {self.children: None, child: None}

    def disown(self, child: _Block) -> None:
        if isinstance(self.children, dict):
            del self.children[child]
        if self.children is child or not self.children:
            self.children = None

    def below(self) -> Iterable[_Block]:
        children = self.children
        if children is None:
            return ()
        return children if isinstance(children, dict) else (children,)


class _Chain:
    __slots__ = ("gap", "last", "length", "prompt_tokens", "request")

    def __init__(self, request: str, last: _Block, prompt_tokens: int) -> None:
        self.request = request
        self.last = last
        self.prompt_tokens = prompt_tokens
        self.gap: _Block | None = None
        self.length = 0  # leading blocks in the cache


class ChainLedger(Ledger):
    """Works out the requests behind cached and evicted keys, on the reporter's thread.

    `probe(key)` tells whether the engine caches `key` now; it is called on the reporter's thread,
    after the hand-over of each change, and may raise RuntimeError when the engine changes its
    tables meanwhile: it is then asked again. `block_size` is in tokens; the last `num_unused` of
    the cached blocks of a prompt are not used by the next request.

    Beyond `max_requests` or `max_blocks`, requests go of which nothing is cached any more; then
    those that came first, which are no longer followed.
    """

    def __init__(
        self,
        block_size: int,
        probe: Callable[[Hashable], bool],
        max_requests: int = MAX_REQUESTS,
        max_blocks: int = MAX_BLOCKS,
        num_unused: int = 0,
    ) -> None:
        super().__init__(max_requests)
        if block_size < 1:
            raise ValueError(f"block_size must be at least 1 token, got {block_size}")
        self.block_size = block_size
        self.max_blocks = max_blocks
        self.num_unused = num_unused
        self._probe = probe
        self._work = 0
        self._start_over()

    def _start_over(self) -> None:
        self._steps: deque[Step | None] = deque()  # None: the cache was reset
        self._stale = False
        self._root = _Block(None, None, -1)
        self._blocks: dict[Hashable, _Block] = {}
        self._chains: OrderedDict[str, _Chain] = OrderedDict()
        self._dead: OrderedDict[str, None] = OrderedDict()

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
        self._start_over()

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
        if self._stale:
            self._stale = False
            self._probe_all(flipped)
        self._settle(flipped)

    def _refresh(self, keys: Iterable[Hashable], flipped: set[_Block]) -> None:
        blocks = self._blocks
        for key in keys:
            block = blocks.get(key)
            if block is not None and block.cached is not None:
                cached = self._is_cached(key)
                # A block that others wait for may have come and gone since they were told of.
                if block.cached != cached or (block.waiting and not cached):
                    block.cached = cached
                    flipped.add(block)
            self._worked(1)

    def _settle(self, flipped: set[_Block]) -> None:
        """Cut those behind what went, the last blocks first; then measure behind what came."""
        came = []
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
                self._tell(chain)
                if chain.length:
                    self._dead.pop(chain.request, None)

    def _behind(self, block: _Block) -> Iterator[_Chain]:
        """The requests whose gap is at a block, or which had all up to it and beyond."""
        stack = [block]
        while stack:
            found = stack.pop()
            yield from found.waiting or ()
            if found is block or found.cached:
                yield from (chain for chain in found.ends or () if chain.gap is None)
                stack.extend(found.below())
            self._worked(1)

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

    def _wait(self, chain: _Chain, gap: _Block | None) -> None:
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

    def _tell(self, chain: _Chain, shrunk: bool = False) -> None:
        tokens = max(0, chain.length - self.num_unused) * self.block_size
        self._mark(chain.request, Mark(tokens, chain.prompt_tokens, shrunk))

    def _register(self, new: Registered) -> None:
        last = self._path(new.keys)
        old = self._chains.get(new.request)
        if old is not None and old.last is last:
            self._chains.move_to_end(new.request)
            return
        if last is self._root:  # shorter than a block: nothing of it is ever cached
            self.unfollow(new.request)
            if old is not None:
                self._drop(old)
            return
        chain = _Chain(new.request, last, new.prompt_tokens)
        last.ends = last.ends or {}
        last.ends[chain] = None
        if old is not None:
            self._drop(old)
        self._chains[new.request] = chain
        self._measure(chain, 0)
        if chain.length or old is not None:
            self._tell(chain)
        self._bound()

    def _path(self, keys: list[Hashable]) -> _Block:
        """The last block of a prompt, with all before it in the tree."""
        last = self._root
        for position, key in enumerate(keys):
            block = self._blocks.get(key)
            if block is None:
                block = self._blocks[key] = _Block(key, last, position)
                last.adopt(block)
            elif block.parent is not last:
                break  # not chained over what stands before it: nothing more is claimed
            last = block
        self._worked(len(keys))
        return last

    def _bound(self) -> None:
        while len(self._chains) > self.max_requests or (
            len(self._blocks) > self.max_blocks and len(self._chains) > 1
        ):
            if self._dead:  # the index knows already that nothing of it is left
                self._drop(self._chains[next(iter(self._dead))])
                continue
            self.dropped += 1
            oldest = next(iter(self._chains.values()))
            self._drop(oldest)
            self.unfollow(oldest.request)

    def _drop(self, chain: _Chain) -> None:
        self._chains.pop(chain.request)
        self._dead.pop(chain.request, None)
        self._wait(chain, None)
        block = chain.last
        if block.ends is not None:
            del block.ends[chain]
            block.ends = block.ends or None
        while block.parent is not None and block.ends is None and block.children is None:
            self._blocks.pop(block.key)
            block.parent.disown(block)
            block = block.parent

    def _reset(self) -> None:
        for first in self._root.below():
            stack = [first]
            while stack:
                block = stack.pop()
                block.cached, block.waiting = False, None
                stack.extend(block.below())
                for chain in block.ends or ():
                    had = chain.length
                    self._wait(chain, first)
                    self._dead.update({chain.request: None} if had else {})
                self._worked(1)
        self._clear_marks()

    def _probe_all(self, flipped: set[_Block]) -> None:
        """Ask for every block, and tell all again of which a part is missing."""
        for block in list(self._blocks.values()):
            if block.cached is not None:
                cached = self._is_cached(block.key)
                if block.cached != cached or (block.waiting and not cached):
                    flipped.add(block)
                block.cached = cached
            self._worked(1)


def _position(block: _Block) -> int:
    return block.position

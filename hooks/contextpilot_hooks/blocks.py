"""The tree of chained block keys under the ledgers for vLLM's caches, and their queue.

A block's key is chained over all tokens before it, so it has one position and one block before it
in every prompt that holds it: the blocks are a tree, and what prompts share is there once.
`chain.ChainLedger` keeps one number a request, `points.PointLedger` a set of lengths.

Every change is handed over after it happened and the engine is asked after that, so the last
answer about a key is right, whatever the two threads did in between.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable
from typing import NamedTuple

from .ledger import MAX_REQUESTS, Event, Ledger, Points

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


class Block:
    """`cached` is what the engine last said of it; None: nobody asked yet."""

    __slots__ = ("cached", "children", "ends", "key", "parent", "position", "waiting")

    def __init__(self, key: Hashable, parent: Block | None, position: int) -> None:
        self.key = key
        self.parent = parent
        self.position = position
        self.cached: Hashable = None
        self.children: Block | dict[Block, None] | None = None  # mostly one
        self.ends: dict[Chain, None] | None = None  # requests whose last block it is
        self.waiting: dict[Chain, None] | None = None  # requests whose gap it is

    def adopt(self, child: Block) -> None:
        if self.children is None:
            self.children = child
        elif isinstance(self.children, dict):
            self.children[child] = None
        else:
            self.children = {self.children: None, child: None}

    def disown(self, child: Block) -> None:
        if isinstance(self.children, dict):
            del self.children[child]
        if self.children is child or not self.children:
            self.children = None

    def below(self) -> Iterable[Block]:
        children = self.children
        if children is None:
            return ()
        return children if isinstance(children, dict) else (children,)


class Chain:
    """A request that is followed; which of `gap` and `points` is used is up to the ledger."""

    __slots__ = ("gap", "last", "length", "points", "prompt_tokens", "request")

    def __init__(self, request: str, last: Block, prompt_tokens: int) -> None:
        self.request = request
        self.last = last
        self.prompt_tokens = prompt_tokens
        self.gap: Block | None = None
        self.points: Points = ()
        self.length = 0  # leading blocks in the cache


class BlockLedger(Ledger):
    """Works out the requests behind cached and evicted keys, on the reporter's thread.

    `block_size` is in tokens. Beyond `max_requests` or `max_blocks`, requests go of which nothing
    is cached any more; then those that came first, which are no longer followed.
    """

    def __init__(
        self, block_size: int, max_requests: int = MAX_REQUESTS, max_blocks: int = MAX_BLOCKS
    ) -> None:
        super().__init__(max_requests)
        if block_size < 1:
            raise ValueError(f"block_size must be at least 1 token, got {block_size}")
        self.block_size = block_size
        self.max_blocks = max_blocks
        self._work = 0
        self._start_over()

    def _start_over(self) -> None:
        self._steps: deque[Step | None] = deque()  # None: the cache was reset
        self._stale = False
        self._root = Block(None, None, -1)
        self._blocks: dict[Hashable, Block] = {}
        self._chains: OrderedDict[str, Chain] = OrderedDict()
        self._dead: OrderedDict[str, None] = OrderedDict()

    # What a ledger makes of it.

    def _refresh(self, keys: Iterable[Hashable], flipped: set[Block]) -> None:
        """Ask again for blocks that changed; add those to `flipped` of which it is news."""
        raise NotImplementedError

    def _settle(self, flipped: set[Block]) -> None:
        """Tell of all requests that flipped blocks touch."""
        raise NotImplementedError

    def _measure(self, chain: Chain, start: int) -> None:
        """Find out what is cached of a request; nothing changed before the block at `start`."""
        raise NotImplementedError

    def _tell(self, chain: Chain, shrunk: bool = False) -> None:
        raise NotImplementedError

    def _detach(self, chain: Chain) -> None:
        """Let a chain go that is about to be dropped."""

    def _clear_chain(self, chain: Chain, first: Block) -> None:
        """Note that nothing is cached of a request, from its first block on."""
        raise NotImplementedError

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
        flipped: set[Block] = set()
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

    def _probe_all(self, flipped: set[Block]) -> None:
        """Ask for every block, and tell all again of which a part is missing."""
        self._refresh(list(self._blocks), flipped)

    def _worked(self, units: int) -> None:
        """Let the scheduler have the interpreter after every so much work, but not more often.

        Each time may cost this thread a whole switch interval (5 ms) when the scheduler is busy.
        """
        self._work += units
        if self._work >= _SLICE:
            self._work = 0
            time.sleep(0)

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
        chain = Chain(new.request, last, new.prompt_tokens)
        last.ends = last.ends or {}
        last.ends[chain] = None
        if old is not None:
            self._drop(old)
        self._chains[new.request] = chain
        self._measure(chain, 0)
        if chain.length or old is not None:
            self._tell(chain)
        self._bound()

    def _path(self, keys: list[Hashable]) -> Block:
        """The last block of a prompt, with all before it in the tree."""
        last = self._root
        for position, key in enumerate(keys):
            block = self._blocks.get(key)
            if block is None:
                block = self._blocks[key] = Block(key, last, position)
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

    def _drop(self, chain: Chain) -> None:
        self._chains.pop(chain.request)
        self._dead.pop(chain.request, None)
        self._detach(chain)
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
                    self._dead.update({chain.request: None} if chain.length else {})
                    self._clear_chain(chain, first)
                self._worked(1)
        self._clear_marks()

"""Blocks of prompts, each named by all tokens up to its end: the beginnings that prompts share.

| of a block | is                                                                             |
|------------|--------------------------------------------------------------------------------|
| held       | who holds it, as a bit mask: a bit for each group of layers of each rank       |
| whole      | those of them that hold all blocks before it, too                              |
| reach      | how many leading blocks of its chain are whole somewhere                       |
| refs       | blocks after it, hashes for it and requests that end there; 0: it goes         |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

from contextpilot.sync.sources.kv_events.wire import TOKEN_BYTES

_ALL = -1
"""The bits of whoever holds the empty beginning of a prompt."""


class Block:
    """A block of a prompt behind all those before it."""

    __slots__ = ("after", "before", "depth", "held", "key", "names", "reach", "refs", "whole")

    def __init__(self, before: Block | None, key: bytes) -> None:
        self.before = before
        self.key = key
        self.depth: int = before.depth + 1 if before is not None else 0
        self.held = self.whole = 0 if before is not None else _ALL
        self.reach: int = before.reach if before is not None else 0
        self.refs = 0
        self.after: dict[bytes, Block] | None = None
        self.names: dict[str, None] | None = None


class BlockTree:
    """The blocks that caches or prompts name. For use on one thread."""

    def __init__(self) -> None:
        self._roots: dict[bytes, Block] = {}
        self._changed: dict[Block, None] = {}
        self._num_blocks = 0

    def __len__(self) -> int:
        return self._num_blocks

    def root(self, lora: str, salt: str) -> Block:
        """Return the empty beginning of the prompts of a LoRA and a salt."""
        key = blake2b(repr((lora, salt)).encode(), digest_size=16).digest()
        root = self._roots.get(key)
        if root is None:
            root = self._roots[key] = Block(None, key)
        return root

    def keys(
        self, here: Block, packed: bytes, size: int, extras: Sequence[str] = ()
    ) -> Iterator[bytes]:
        """Yield the keys of the whole blocks of `size` tokens that follow a block."""
        step, key = size * TOKEN_BYTES, here.key
        for number in range(len(packed) // step):
            content = packed[number * step : (number + 1) * step]
            extra = extras[number].encode() if number < len(extras) else b""
            key = blake2b(key + content + extra, digest_size=16).digest()
            yield key

    def child(self, before: Block, key: bytes) -> Block:
        """Return the block of a key behind another."""
        if before.after is None:
            before.after = {}
        block = before.after.get(key)
        if block is None:
            block = before.after[key] = Block(before, key)
            before.refs += 1
            self._num_blocks += 1
        return block

    def hold(self, block: Block, held: int) -> None:
        """Note who holds a block now."""
        if block.held != held:
            block.held = held
            self._changed[block] = None

    def settle(self, *, is_sparse: bool = False) -> dict[str, None]:
        """Bring `whole` and `reach` up to date; return the requests for which anything changed.

        Args:
            is_sparse: any change at a block counts for all behind it.
        """
        touched: dict[str, None] = {}
        first = sorted(self._changed, key=_depth)
        for block in first:
            self._spread(block, touched)
        if is_sparse:
            _add_behind(first, touched)
        self._changed = {}
        for block in first:
            self.prune(block)
        return touched

    def prune(self, block: Block | None) -> None:
        """Let a block go to which nothing refers, and those before it."""
        while block is not None and not block.refs and block not in self._changed:
            before = block.before
            if before is None:
                self._roots.pop(block.key, None)
                return
            if before.after is None or before.after.pop(block.key, None) is None:
                return
            self._num_blocks -= 1
            before.refs -= 1
            block = before

    @staticmethod
    def _spread(first: Block, touched: dict[str, None]) -> None:
        waiting = [first]
        while waiting:
            block = waiting.pop()
            before = block.before
            if before is None:
                continue
            whole = block.held & before.whole
            reach = block.depth if whole else before.reach
            if whole == block.whole and reach == block.reach:
                continue
            block.whole, block.reach = whole, reach
            if block.names:
                touched.update(block.names)
            if block.after:
                waiting.extend(block.after.values())


def _add_behind(first: Iterable[Block], touched: dict[str, None]) -> None:
    waiting, seen = list(first), set[Block]()
    while waiting:
        block = waiting.pop()
        if block not in seen:
            seen.add(block)
            touched.update(block.names or {})
            waiting.extend((block.after or {}).values())


def _depth(block: Block) -> int:
    return block.depth

"""What one rank of an engine holds: how often each hash, and which blocks hashes stand for.

A rank holds a block as often as it was stored and not removed: removals come one by one where
several requests computed the same block at once. Each group of layers holds for itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from contextpilot.sync.sources.kv_events.tree import Block, BlockTree
from contextpilot.sync.sources.kv_events.wire import MAX_GROUPS, Removed, Stored

_MAX_GONE = 65_536
"""Hashes of blocks that a rank holds no more which are still known: others may come after them."""


class Rank:
    """One rank's cache over a tree of blocks.

    Args:
        number: of the rank, from 0.
        max_names: hashes; of groups that do not say where these stand what is beyond is not held.
    """

    def __init__(self, number: int, tree: BlockTree, max_names: int) -> None:
        self._first = number * MAX_GROUPS
        self._bits = ((1 << MAX_GROUPS) - 1) << self._first
        self._tree = tree
        self._max_names = max_names
        self._blocks: dict[object, Block] = {}
        self._counts: dict[int, dict[object, int]] = {}
        self._gone: OrderedDict[Block, object] = OrderedDict()
        self._removed: set[Block] = set()  # of these, those that were told to have left

    @property
    def is_empty(self) -> bool:
        """Whether no hash is known."""
        return not self._blocks

    def block_of(self, name: object) -> Block | None:
        """Return the block that a hash stands for, as far as that is known."""
        return self._blocks.get(name)

    def store(self, stored: Stored, here: Block, size: int) -> None:
        """Take blocks behind another that a group came to hold which holds all of a prompt."""
        self._mend(here, stored)
        keys = self._tree.keys(here, stored.packed, size, stored.extras)
        for name, key in zip(stored.hashes, keys, strict=False):
            block = self._blocks.get(name)
            if block is None:
                block = self._blocks[name] = self._tree.child(here, key)
                block.refs += 1
                self._tree.hold(block, block.held & ~self._bits | self._bits_of(name))
            self._count(stored.group, name)
            self._hold(stored.group, name, block)
            here = block

    def store_names(self, group: int, names: Sequence[object]) -> None:
        """Take blocks that another group came to hold: it does not say where they stand."""
        for name in names:
            is_new = name not in self._counts.get(group, ())
            if is_new and sum(map(len, self._counts.values())) >= self._max_names:
                continue
            self._count(group, name)
            block = self._blocks.get(name)
            if block is not None:
                self._hold(group, name, block)

    def remove(self, removed: Removed) -> None:
        """Take blocks that left a group."""
        counts = self._counts.get(removed.group, {})
        for name in removed.hashes:
            count = counts.get(name, 0)
            if count > 1:
                counts[name] = count - 1
            elif count:
                self._drop(removed.group, name)
                block = self._blocks.get(name)
                if block is not None and block in self._gone:
                    self._removed.add(block)
        self.forget_gone(_MAX_GONE)

    def clear(self) -> None:
        """Hold nothing; hashes stay known for a while."""
        for group, counts in self._counts.items():
            for name in list(counts):
                self._drop(group, name)
        self._removed.clear()

    def forget_gone(self, limit: int = _MAX_GONE) -> None:
        """Forget the hashes of blocks that went, the oldest first."""
        while len(self._gone) > limit:
            block, name = self._gone.popitem(last=False)
            self._removed.discard(block)
            self._unname(name, block)

    def _bit(self, group: int) -> int:
        return 1 << (self._first + group)

    def _bits_of(self, name: object) -> int:
        return sum(self._bit(group) for group, counts in self._counts.items() if name in counts)

    def _count(self, group: int, name: object) -> None:
        counts = self._counts.setdefault(group, {})
        counts[name] = counts.get(name, 0) + 1

    def _hold(self, group: int, name: object, block: Block) -> None:
        self._replace_gone(block, name)
        self._tree.hold(block, block.held | self._bit(group))

    def _drop(self, group: int, name: object) -> None:
        """Hold a block no more in a group."""
        del self._counts[group][name]
        block = self._blocks.get(name)
        if block is None:
            return
        self._tree.hold(block, block.held & ~self._bit(group))
        if not block.held & self._bits:
            self._replace_gone(block, name)
            self._gone[block] = name

    def _replace_gone(self, block: Block, name: object) -> None:
        self._removed.discard(block)
        before = self._gone.pop(block, name)
        if before != name:  # another hash for the same tokens: SGLang tells no extra_key
            self._unname(before, block)

    def _mend(self, last: Block, stored: Stored) -> None:
        """Hold a block and those before it again, as far as their hashes are known.

        Whatever is stored behind a block shows that this one, and all before it, are held: by full
        attention. Where no kind was told, a window may be behind what it has let go.
        """
        here: Block | None = last
        group, bit = stored.group, self._bit(stored.group)
        while here is not None and not here.whole & bit:
            if stored.kind is None and here in self._removed:
                return
            if not here.held & bit and here in self._gone:
                name = self._gone[here]
                self._count(group, name)
                self._hold(group, name, here)
            here = here.before

    def _unname(self, name: object, block: Block) -> None:
        self._blocks.pop(name, None)
        block.refs -= 1
        self._tree.prune(block)

"""What an engine's ranks hold of which requests, by the hashes in their KV events.

A prompt is a chain of blocks, each named by all tokens up to its end; prompts that begin alike
share the beginning of a tree. A rank holds a block as often as it was stored and not removed:
removals come one by one where several requests computed the same block at once. A request finds
its leading blocks up to the first that no rank holds together with all before it.

| of a block | is                                                                     |
|------------|------------------------------------------------------------------------|
| held       | the ranks that hold it, as a bit mask                                  |
| whole      | those of them that hold all blocks before it, too                      |
| reach      | how many leading blocks of its chain are whole somewhere               |
| refs       | blocks after it, hashes for it and requests that end there; 0: it goes |
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from hashlib import blake2b

from contextpilot.sync.events import Event
from contextpilot.sync.sources.kv_events.wire import TOKEN_BYTES, Removed, Stored

MAX_BLOCKS = 1_048_576
"""Some 500 bytes each."""
MAX_REQUESTS = 65_536
_MAX_GONE = 65_536
"""Hashes of blocks that a rank holds no more which are still known: others may come after them."""
_ALL = -1
"""The ranks that hold the empty beginning of a prompt."""


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


class _Prompt:
    """A request: where its whole blocks end, its tokens, and how many of these were told."""

    __slots__ = ("end", "tokens", "told")

    def __init__(self, end: Block, tokens: int) -> None:
        self.end = end
        self.tokens = tokens
        self.told = -1


class _Rank:
    """What one rank holds: how often each hash, and which blocks hashes stand for."""

    def __init__(self, number: int) -> None:
        self.bit = 1 << number
        self.blocks: dict[object, Block] = {}
        self.counts: dict[object, int] = {}
        self.gone: OrderedDict[Block, object] = OrderedDict()


class Chains:
    """The caches of one engine's ranks. For use on one thread.

    Args:
        ranks: how many.
        max_blocks, max_requests: beyond these, requests go of which nothing is held, then the
            oldest; what engines store beyond is not followed.

    Attributes:
        block_size: tokens of a block; 0 until the engine stored one.
        num_stored, num_removed: blocks, so far.
        num_unplaced: stored blocks of which it is not known what stands before them.
        num_unfollowed: requests that went.
    """

    def __init__(
        self, ranks: int = 1, max_blocks: int = MAX_BLOCKS, max_requests: int = MAX_REQUESTS
    ) -> None:
        self._max_blocks = max_blocks
        self._max_requests = max_requests
        self._ranks = [_Rank(number) for number in range(ranks)]
        self._roots: dict[bytes, Block] = {}
        self._num_blocks = 0
        self._prompts: OrderedDict[str, _Prompt] = OrderedDict()
        self._lost: OrderedDict[str, None] = OrderedDict()
        self._changed: dict[Block, None] = {}
        self._touched: dict[str, None] = {}
        self._gone: dict[str, None] = {}
        self._loras: set[str] = set()
        self.block_size = 0
        self.num_stored = self.num_removed = self.num_unplaced = self.num_unfollowed = 0

    def __len__(self) -> int:
        return self._num_blocks

    @property
    def num_requests(self) -> int:
        """Requests that are followed."""
        return len(self._prompts)

    # -- what the engine tells -------------------------------------------------------------------

    def store(self, rank: int, stored: Stored) -> None:
        """Take blocks that came into a rank's cache.

        Whatever is stored behind a block shows that this one, and all before it, are held.
        """
        self.num_stored += len(stored.hashes)
        self.block_size = self.block_size or stored.size
        place = self._ranks[rank]
        here = self._parent(place, stored) if stored.size == self.block_size else None
        if here is None or not self._has_room():
            self.num_unplaced += len(stored.hashes)
            self._prune(here)
            return
        if stored.lora:
            self._loras.add(stored.lora)
        self._mend(place, here)
        keys = self._keys(here, stored.packed, stored.extras)
        for name, key in zip(stored.hashes, keys, strict=False):
            block = place.blocks.get(name)
            if block is None:
                block = place.blocks[name] = self._block(here, key)
                block.refs += 1
            self._hold(place, block, name)
            here = block

    def remove(self, rank: int, removed: Removed) -> None:
        """Take blocks that left a rank's cache."""
        self.num_removed += len(removed.hashes)
        place = self._ranks[rank]
        for name in removed.hashes:
            count = place.counts.get(name, 0)
            if count > 1:
                place.counts[name] = count - 1
            elif count:
                self._drop(place, name)
        self._forget_gone(place, _MAX_GONE)

    def clear(self, rank: int) -> None:
        """Hold nothing of a rank: its cache was emptied, or is not known any more."""
        place = self._ranks[rank]
        for name in list(place.counts):
            self._drop(place, name)
        self._settle()
        self._forget_gone(place, _MAX_GONE)

    def restart(self, rank: int) -> None:
        """Forget a rank, its hashes too: the engine began anew."""
        self.clear(rank)
        self._forget_gone(self._ranks[rank], 0)
        if not any(place.blocks for place in self._ranks):
            for request in list(self._prompts):
                self._release(request)
            self.block_size = 0

    # -- requests --------------------------------------------------------------------------------

    def follow(self, request: str, packed: bytes, model: str = "", salt: str = "") -> None:
        """Follow a request by the tokens of its prompt; the size of a block must be known.

        Args:
            packed: as in `Stored`.
            model: as in the request; it may name a LoRA.
        """
        if request in self._prompts:
            self._release(request)
        here = self._root(model if model in self._loras else "", salt)
        for key in self._keys(here, packed):
            here = self._block(here, key)
        here.names = here.names or {}
        here.names[request] = None
        here.refs += 1
        self._gone.pop(request, None)
        self._prompts[request] = _Prompt(here, len(packed) // TOKEN_BYTES)
        self._touched[request] = None
        while len(self._prompts) > self._max_requests:
            self._shorten()
        self._has_room()

    def held_tokens(self, request: str) -> int | None:
        """Return how many leading tokens of a request are held; None where it is not followed."""
        self._settle()
        prompt = self._prompts.get(request)
        return None if prompt is None else self._tokens(prompt)

    def is_whole(self, request: str) -> bool:
        """Return whether all whole blocks of a request are held."""
        prompt = self._prompts.get(request)
        return prompt is not None and prompt.end.reach == prompt.end.depth

    def requests(self) -> list[str]:
        """Return the requests that are followed, oldest first."""
        return list(self._prompts)

    def changes(self) -> list[Event]:
        """Return what changed for requests since this was asked last."""
        self._settle()
        told = [Event("unfollowed", request) for request in self._gone]
        self._gone.clear()
        for request in self._touched:
            prompt = self._prompts.get(request)
            if prompt is None:
                continue
            tokens = self._tokens(prompt)
            if tokens != prompt.told:
                told.append(_event(request, prompt, tokens))
            prompt.told = tokens
            if tokens:
                self._lost.pop(request, None)
            else:
                self._lost[request] = None
        self._touched.clear()
        return told

    def all_held(self) -> list[Event]:
        """Return what is held of all requests: what `changes` would have told by now."""
        self.changes()
        return [
            Event("cached", request, prompt.told, prompt.tokens)
            for request, prompt in self._prompts.items()
            if prompt.told
        ]

    # -- the tree --------------------------------------------------------------------------------

    def _root(self, lora: str, salt: str) -> Block:
        key = _root_key(lora, salt)
        root = self._roots.get(key)
        if root is None:
            root = self._roots[key] = Block(None, key)
        return root

    def _parent(self, place: _Rank, stored: Stored) -> Block | None:
        if stored.parent is None:
            return self._root(stored.lora, stored.salt)
        return place.blocks.get(stored.parent)

    def _keys(self, here: Block, packed: bytes, extras: Sequence[str] = ()) -> Iterator[bytes]:
        """Yield the keys of the whole blocks of tokens that follow a block."""
        step, key = self.block_size * TOKEN_BYTES, here.key
        for number in range(len(packed) // step):
            content = packed[number * step : (number + 1) * step]
            extra = extras[number].encode() if number < len(extras) else b""
            key = blake2b(key + content + extra, digest_size=16).digest()
            yield key

    def _block(self, before: Block, key: bytes) -> Block:
        if before.after is None:
            before.after = {}
        block = before.after.get(key)
        if block is None:
            block = before.after[key] = Block(before, key)
            before.refs += 1
            self._num_blocks += 1
        return block

    def _hold(self, place: _Rank, block: Block, name: object) -> None:
        place.counts[name] = place.counts.get(name, 0) + 1
        self._replace_gone(place, block, name)
        if not block.held & place.bit:
            block.held |= place.bit
            self._changed[block] = None

    def _drop(self, place: _Rank, name: object) -> None:
        """Hold a block no more; its hash stays known for a while."""
        del place.counts[name]
        block = place.blocks[name]
        block.held &= ~place.bit
        self._changed[block] = None
        self._replace_gone(place, block, name)
        place.gone[block] = name

    def _replace_gone(self, place: _Rank, block: Block, name: object) -> None:
        before = place.gone.pop(block, name)
        if before != name:  # another hash for the same tokens: SGLang tells no extra_key
            self._unname(place, before, block)

    def _mend(self, place: _Rank, last: Block) -> None:
        """Hold a block and those before it again, as far as their hashes are known."""
        here: Block | None = last
        while here is not None and not here.whole & place.bit:
            if not here.held & place.bit and here in place.gone:
                self._hold(place, here, place.gone[here])
            here = here.before

    def _settle(self) -> None:
        """Bring `whole` and `reach` up to date behind all blocks that changed."""
        for block in sorted(self._changed, key=_depth):
            self._spread(block)
        changed, self._changed = self._changed, {}
        for block in changed:
            self._prune(block)

    def _spread(self, first: Block) -> None:
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
                self._touched.update(block.names)
            if block.after:
                waiting.extend(block.after.values())

    def _tokens(self, prompt: _Prompt) -> int:
        return prompt.end.reach * self.block_size

    # -- bounds ----------------------------------------------------------------------------------

    def _has_room(self) -> bool:
        """Let go what is too much; return whether the caches themselves leave room."""
        if self._num_blocks <= self._max_blocks:
            return True
        self._settle()
        for place in self._ranks:
            self._forget_gone(place, 0)
        while self._num_blocks > self._max_blocks and self._prompts:
            self._shorten()
        return self._num_blocks <= self._max_blocks

    def _shorten(self) -> None:
        request = next(iter(self._lost), None) or next(iter(self._prompts))
        self._release(request)

    def _release(self, request: str) -> None:
        prompt = self._prompts.pop(request)
        self._lost.pop(request, None)
        self._touched.pop(request, None)
        self._gone[request] = None
        self.num_unfollowed += 1
        names = prompt.end.names or {}
        names.pop(request, None)
        prompt.end.refs -= 1
        self._prune(prompt.end)

    def _forget_gone(self, place: _Rank, limit: int) -> None:
        while len(place.gone) > limit:
            block, name = place.gone.popitem(last=False)
            self._unname(place, name, block)

    def _unname(self, place: _Rank, name: object, block: Block) -> None:
        place.blocks.pop(name, None)
        block.refs -= 1
        self._prune(block)

    def _prune(self, block: Block | None) -> None:
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


def _event(request: str, prompt: _Prompt, tokens: int) -> Event:
    if tokens > prompt.told or prompt.told < 0:
        return Event("cached", request, tokens, prompt.tokens)
    return Event("truncated", request, tokens, prompt.tokens)


def _root_key(lora: str, salt: str) -> bytes:
    return blake2b(repr((lora, salt)).encode(), digest_size=16).digest()


def _depth(block: Block) -> int:
    return block.depth

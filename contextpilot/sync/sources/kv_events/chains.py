"""What an engine's ranks hold of which requests, by the hashes in their KV events.

A prompt is a chain of blocks in a tree (`tree`), of which each rank holds some (`rank`). Of a cache
with full attention alone a request finds its leading blocks up to the first that no rank holds
together with all before it; of one with groups of other layers, what `layers` says.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from contextpilot.named import Points
from contextpilot.sync.events import Event, Kind
from contextpilot.sync.sources.kv_events.layers import Layers
from contextpilot.sync.sources.kv_events.rank import Rank
from contextpilot.sync.sources.kv_events.tree import Block, BlockTree
from contextpilot.sync.sources.kv_events.wire import TOKEN_BYTES, Removed, Stored

_MAX_LORAS = 4096
"""Names; of a request that names another model nothing is believed once there are more."""
MAX_BLOCKS = 1_048_576
"""Some 500 bytes each."""
MAX_REQUESTS = 65_536


class _Held(NamedTuple):
    """How many leading tokens are held; of a sparse cache the last of its points."""

    tokens: int
    points: Points | None = None


class _Prompt:
    """A request: where its whole blocks end, its tokens, and what of these was told."""

    __slots__ = ("end", "tokens", "told")

    def __init__(self, end: Block, tokens: int) -> None:
        self.end = end
        self.tokens = tokens
        self.told: _Held | None = None


class Chains:
    """The caches of one engine's ranks. For use on one thread.

    Args:
        ranks: how many.
        max_blocks, max_requests: beyond these, requests go of which nothing is held, then the
            oldest; what engines store beyond is not followed.

    Attributes:
        block_size: tokens of a block; 0 until the engine stored one.
        layers: what is known of the groups of layers.
        num_stored, num_removed: blocks, so far.
        num_unplaced: stored blocks of which it is not known what stands before them.
        num_unfollowed: requests that went.
    """

    def __init__(
        self, ranks: int = 1, max_blocks: int = MAX_BLOCKS, max_requests: int = MAX_REQUESTS
    ) -> None:
        self._max_blocks = max_blocks
        self._max_requests = max_requests
        self._tree = BlockTree()
        self._ranks = [Rank(number, self._tree, max_blocks) for number in range(ranks)]
        self._prompts: OrderedDict[str, _Prompt] = OrderedDict()
        self._lost: OrderedDict[str, None] = OrderedDict()
        self._touched: dict[str, None] = {}
        self._gone: dict[str, None] = {}
        self._loras: set[str] = set()
        self._has_more_loras = False
        self.layers = Layers()
        self.block_size = 0
        self.num_stored = self.num_removed = self.num_unplaced = self.num_unfollowed = 0

    def __len__(self) -> int:
        return len(self._tree)

    @property
    def num_requests(self) -> int:
        """Requests that are followed."""
        return len(self._prompts)

    # -- what the engine tells -------------------------------------------------------------------

    def store(self, rank: int, stored: Stored) -> None:
        """Take blocks that came into a rank's cache."""
        self.num_stored += len(stored.hashes)
        self.block_size = self.block_size or stored.size
        if self.layers.learn(stored):
            self._touched.update(dict.fromkeys(self._prompts))
        place = self._ranks[rank]
        if not stored.is_full:
            place.store_names(stored.group, stored.hashes)
            return
        here = self._parent(place, stored) if stored.size == self.block_size else None
        if here is None or not self._has_room():
            self.num_unplaced += len(stored.hashes)
            self._tree.prune(here)
            return
        if stored.lora and stored.lora not in self._loras:
            self._has_more_loras = len(self._loras) >= _MAX_LORAS
            self._loras.update(() if self._has_more_loras else (stored.lora,))
        place.store(stored, here, self.block_size)

    def remove(self, rank: int, removed: Removed) -> None:
        """Take blocks that left a rank's cache."""
        self.num_removed += len(removed.hashes)
        self._ranks[rank].remove(removed)

    def clear(self, rank: int) -> None:
        """Hold nothing of a rank: its cache was emptied, or is not known any more."""
        self._ranks[rank].clear()
        self._settle()
        self._ranks[rank].forget_gone()

    def restart(self, rank: int) -> None:
        """Forget a rank, its hashes too: the engine began anew."""
        self.clear(rank)
        self._ranks[rank].forget_gone(0)
        if all(place.is_empty for place in self._ranks):
            for request in list(self._prompts):
                self._release(request)
            self.layers, self.block_size = Layers(self.layers.drafts), 0

    def expect_drafts(self, drafts: bool) -> None:
        """Note whether layers may draft: then the last block of what is held is computed anew."""
        if self.layers.drafts != drafts:
            self.layers.drafts = drafts
            self._touched.update(dict.fromkeys(self._prompts))

    # -- requests --------------------------------------------------------------------------------

    def follow(self, request: str, packed: bytes, model: str = "", salt: str = "") -> None:
        """Follow a request by the tokens of its prompt; the size of a block must be known.

        Args:
            packed: as in `Stored`.
            model: as in the request; it may name a LoRA.
        """
        if request in self._prompts:
            self._release(request)
        is_lora = model in self._loras
        if model and not is_lora and self._has_more_loras:
            self._gone[request] = None
            return
        here = self._tree.root(model if is_lora else "", salt)
        for key in self._tree.keys(here, packed, self.block_size):
            here = self._tree.child(here, key)
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
        """Return how many leading tokens of a request can be reused; None: it is not followed."""
        self._settle()
        prompt = self._prompts.get(request)
        return None if prompt is None else self._held(prompt).tokens

    def settled(self, request: str) -> Event | None:
        """Return what is held of a request of which no more will come; None where that is all."""
        self._settle()
        prompt = self._prompts.get(request)
        if prompt is None or self._is_whole(prompt):
            return None
        held = self._held(prompt)
        return Event("truncated", request, held.tokens, prompt.tokens, held.points)

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
            held = self._held(prompt)
            if held != prompt.told:
                told.append(_event(request, prompt, held))
            prompt.told = held
            if held.tokens:
                self._lost.pop(request, None)
            else:
                self._lost[request] = None
        self._touched.clear()
        return told

    def all_held(self) -> list[Event]:
        """Return what is held of all requests: what `changes` would have told by now."""
        self.changes()
        return [
            Event("cached", request, prompt.told.tokens, prompt.tokens, prompt.told.points)
            for request, prompt in self._prompts.items()
            if prompt.told is not None and prompt.told.tokens
        ]

    def _is_whole(self, prompt: _Prompt) -> bool:
        return not self.layers.is_sparse and prompt.end.reach == prompt.end.depth

    def _held(self, prompt: _Prompt) -> _Held:
        if not self.layers.is_sparse:
            return _Held(prompt.end.reach * self.block_size)
        held, block = [], prompt.end
        while block.before is not None:
            held.append(block.held)
            block = block.before
        held.reverse()
        points = self.layers.points(held, len(self._ranks))
        return _Held(points[-1][1] if points else 0, points)

    def _parent(self, place: Rank, stored: Stored) -> Block | None:
        if stored.parent is None:
            return self._tree.root(stored.lora, stored.salt)
        return place.block_of(stored.parent)

    def _settle(self) -> None:
        self._touched.update(self._tree.settle(is_sparse=self.layers.is_sparse))

    # -- bounds ----------------------------------------------------------------------------------

    def _has_room(self) -> bool:
        """Let go what is too much; return whether the caches themselves leave room."""
        if len(self) <= self._max_blocks:
            return True
        self._settle()
        for place in self._ranks:
            place.forget_gone(0)
        while len(self) > self._max_blocks and self._prompts:
            self._shorten()
        return len(self) <= self._max_blocks

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
        self._tree.prune(prompt.end)


def _event(request: str, prompt: _Prompt, held: _Held) -> Event:
    is_more = prompt.told is None or held.tokens >= prompt.told.tokens
    kind: Kind = "cached" if is_more else "truncated"
    return Event(kind, request, held.tokens, prompt.tokens, held.points)

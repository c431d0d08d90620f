"""One bound for all that the namespaces of a process hold, shared by use.

The least recently used leaves go first, whoever's they are, as in an engine's cache; the oldest
names of requests; the oldest contexts and conversations where nothing was planned for longest.
"""

from __future__ import annotations

import heapq
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import count
from operator import add, sub
from typing import NamedTuple, Protocol

from contextpilot.dedup.conversation import Conversations
from contextpilot.index import ContextIndex
from contextpilot.plan.support import SupportWindow

_MAX_OWNERS = 500_000
_BLOCKS_PER_TALK = 4
"""A block of a conversation takes about as much memory as so many others."""
_MIN_TALKS = 1_000
"""Blocks of conversations that are kept under any bound."""
_FEW_NAMES = 2_000
"""So many take less than a millisecond; more are forgotten on a thread."""
_MIN_SPENT = 64
"""Entries of namespaces that are gone which the queue of the oldest leaves may always hold."""


class Space(Protocol):
    """What a budget bounds: one namespace at one engine. Its lock guards all but the sizes."""

    lock: threading.RLock
    is_gone: bool

    @property
    def index(self) -> ContextIndex:
        """What the engine is believed to hold."""

    @property
    def window(self) -> SupportWindow:
        """The recent contexts."""

    conversations: Conversations

    @property
    def num_notes(self) -> int:
        """What was noted of blocks and heads that the index does not hold."""

    def shed_notes(self, count: int) -> None:
        """Forget so many notes, the oldest first."""

    def forget_request(self, request_id: str) -> None:
        """Forget a request's name, and what is known of it under that name."""


class Held(NamedTuple):
    """Blocks in the trees, of the paths that requests name, in the windows, of conversations; notes
    of blocks and heads that are in none of them."""

    blocks: int = 0
    named: int = 0
    recent: int = 0
    talks: int = 0
    notes: int = 0


_NOTHING = Held()


def _num_talks(space: Space) -> int:
    return space.conversations.num_blocks


def max_talks(max_blocks: int) -> int:
    """Return the bound on the blocks of all conversations, under a bound on those of the trees."""
    return max(_MIN_TALKS, max_blocks // _BLOCKS_PER_TALK)


class _Pile:
    """What namespaces hold of one kind; it goes where nothing was planned for longest.

    Args:
        name: of the kind, in `Held`.
        most: bound on all of it.
        size: returns how much a space holds of it.
        shed: lets so much of it go, the oldest first.

    Attributes:
        spaces: those that hold any, the one that was used longest ago first.
    """

    def __init__(
        self,
        name: str,
        most: int,
        size: Callable[[Space], int],
        shed: Callable[[Space, int], None],
    ) -> None:
        self._name = name
        self._most = most
        self.size = size
        self.shed = shed
        self.spaces: OrderedDict[Space, None] = OrderedDict()

    def note(self, space: Space, held: Held) -> None:
        """Note what a space holds now."""
        if getattr(held, self._name):
            self.spaces.setdefault(space)
        else:
            self.spaces.pop(space, None)

    def over(self, held: Held) -> int:
        """Return how much there is beyond the bound."""
        return int(getattr(held, self._name)) - self._most


class Budget:
    """Bounds what namespaces hold together. Thread-safe; takes no namespace's lock but in passing.

    Args:
        max_blocks: bound on the blocks of all trees; on those that requests name, on those of the
            windows, and on the notes, each; a fourth of it on those of conversations.
    """

    def __init__(self, max_blocks: int) -> None:
        self.max_blocks = max_blocks
        self.tick = count(1).__next__
        self._lock = threading.Lock()
        self._sizes: OrderedDict[Space, Held] = OrderedDict()
        self._piles = (
            _Pile("recent", max_blocks, lambda s: s.window.num_keys, lambda s, n: s.window.shed(n)),
            _Pile("talks", max_talks(max_blocks), _num_talks, lambda s, n: s.conversations.shed(n)),
            _Pile("notes", max_blocks, lambda s: s.num_notes, lambda s, n: s.shed_notes(n)),
        )
        self._queue: list[tuple[int, int, weakref.ref[Space]]] = []
        self._queued: set[Space] = set()
        self._ticket = count(1).__next__
        self._owners: OrderedDict[str, weakref.ref[Space]] = OrderedDict()
        self.held = Held()

    def own(self, request_id: str, space: Space) -> None:
        """Record which namespace a request belongs to."""
        with self._lock:
            self._owners[request_id] = weakref.ref(space)

    def owner(self, request_id: str) -> Space | None:
        """Return the namespace that a request belongs to; None when it is not remembered."""
        reference = self._owners.get(request_id)
        return reference() if reference is not None else None

    def settle(self, space: Space) -> None:
        """Count what a namespace holds now that it was used, and let go what is too much.

        Call it without the namespace's lock. A namespace in use elsewhere is passed over, so for
        a moment there may be more than the bound.
        """
        with self._lock:
            if space.is_gone:  # by another thread, while this one planned there
                return
            self._count(space)
            self._sizes.move_to_end(space)
            for pile in self._piles:
                if space in pile.spaces:
                    pile.spaces.move_to_end(space)
            if space not in self._queued:
                self._enqueue(space, 0)
            if self.held.blocks > self.max_blocks:
                self._shed_blocks()
            if self.held.named > self.max_blocks or len(self._owners) > _MAX_OWNERS:
                self._shed_names()
            for pile in self._piles:
                if pile.over(self.held) > 0:
                    self._shed_pile(pile)

    def disown(self, request_id: str) -> None:
        """Note that a request's name is gone; whoever calls may hold its namespace's lock."""
        self._owners.pop(request_id, None)

    def leave(self, space: Space, names: Sequence[str]) -> None:
        """Count a namespace no more; `names` are those of its requests."""
        if len(names) <= _FEW_NAMES:
            self._disown_all(names)
        else:
            threading.Thread(target=self._disown_all, args=(names,), daemon=True).start()
        with self._lock:
            for pile in self._piles:
                pile.spaces.pop(space, None)
            self._queued.discard(space)
            self._change(self._sizes.pop(space, _NOTHING), _NOTHING)
            if len(self._queue) > 2 * len(self._queued) + _MIN_SPENT:
                self._queue = [entry for entry in self._queue if entry[2]() in self._queued]
                heapq.heapify(self._queue)

    def _disown_all(self, names: Sequence[str]) -> None:
        for request_id in names:
            self.disown(request_id)

    # -- counting --------------------------------------------------------------------------------

    def _count(self, space: Space) -> None:
        index = space.index
        now = Held(
            index.num_blocks,
            index.num_named_blocks,
            space.window.num_keys,
            space.conversations.num_blocks,
            space.num_notes,
        )
        before = self._sizes.get(space, _NOTHING)
        self._change(before, now)
        self._sizes[space] = now
        for pile in self._piles:
            pile.note(space, now)

    def _change(self, before: Held, now: Held) -> None:
        self.held = Held._make(map(add, map(sub, self.held, before), now))

    def _enqueue(self, space: Space, used: int) -> None:
        self._queued.add(space)
        heapq.heappush(self._queue, (used, self._ticket(), weakref.ref(space)))

    # -- letting go ------------------------------------------------------------------------------

    def _shed_blocks(self) -> None:
        busy = []
        while self.held.blocks > self.max_blocks and self._queue:
            used, _, reference = heapq.heappop(self._queue)
            space = reference()
            if space is None or space not in self._queued:
                continue
            if not space.lock.acquire(blocking=False):
                busy.append((space, used))
                continue
            try:
                self._shed_leaves(space, used)
            finally:
                space.lock.release()
        for space, used in busy:
            self._enqueue(space, used)

    def _shed_leaves(self, space: Space, used: int) -> None:
        """Let the oldest leaves of a namespace go, if they are as old as it was queued for."""
        index = space.index
        oldest = index.oldest()
        if oldest is not None and oldest <= used:
            index.shed(1)
            oldest = index.oldest()
        self._count(space)
        if oldest is None:
            self._queued.discard(space)
        else:
            self._enqueue(space, oldest)

    def _shed_names(self) -> None:
        busy = []
        while self.held.named > self.max_blocks or len(self._owners) > _MAX_OWNERS:
            if not self._owners:
                break
            request_id, reference = self._owners.popitem(last=False)
            space = reference()
            if space is None or space not in self._sizes:
                continue
            if not space.lock.acquire(blocking=False):
                busy.append((request_id, reference))
                continue
            try:
                space.forget_request(request_id)
            finally:
                space.lock.release()
            self._count(space)
        for request_id, reference in reversed(busy):
            self._owners[request_id] = reference
            self._owners.move_to_end(request_id, last=False)

    def _shed_pile(self, pile: _Pile) -> None:
        busy = []
        while pile.spaces and (over := pile.over(self.held)) > 0:
            space = next(iter(pile.spaces))
            if not space.lock.acquire(blocking=False):
                busy.append(space)
                del pile.spaces[space]
                continue
            try:
                pile.shed(space, over)
            finally:
                space.lock.release()
            self._count(space)
        for space in reversed(busy):
            pile.spaces[space] = None
            pile.spaces.move_to_end(space, last=False)

"""One bound for all that the namespaces of a process hold, shared by use.

The least recently used leaves go first, whoever's they are, as in an engine's cache; the oldest
names of requests; the oldest contexts and conversations where nothing was planned for longest.
"""

from __future__ import annotations

import heapq
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from itertools import count
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

    def forget_request(self, request_id: str) -> None:
        """Forget a request's name, and what is known of it under that name."""


class Held(NamedTuple):
    """Blocks in the trees, of the paths that requests name, in the windows, of conversations."""

    blocks: int = 0
    named: int = 0
    recent: int = 0
    talks: int = 0


def max_talks(max_blocks: int) -> int:
    """Return the bound on the blocks of all conversations, under a bound on those of the trees."""
    return max(_MIN_TALKS, max_blocks // _BLOCKS_PER_TALK)


class Budget:
    """Bounds what namespaces hold together. Thread-safe; takes no namespace's lock but in passing.

    Args:
        max_blocks: bound on the blocks of all trees; on those that requests name, and on those of
            the windows, each; a fourth of it on those of conversations.
    """

    def __init__(self, max_blocks: int) -> None:
        self.max_blocks = max_blocks
        self._max_talks = max_talks(max_blocks)
        self.tick = count(1).__next__
        self._lock = threading.Lock()
        self._sizes: OrderedDict[Space, Held] = OrderedDict()
        self._recent: OrderedDict[Space, None] = OrderedDict()
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
            if space.window.num_keys or space.conversations.num_blocks:
                self._recent[space] = None
                self._recent.move_to_end(space)
            if space not in self._queued:
                self._enqueue(space, 0)
            if self.held.blocks > self.max_blocks:
                self._shed_blocks()
            if self.held.named > self.max_blocks or len(self._owners) > _MAX_OWNERS:
                self._shed_names()
            if self.held.recent > self.max_blocks or self.held.talks > self._max_talks:
                self._shed_recent()

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
            self._recent.pop(space, None)
            self._queued.discard(space)
            self._add(self._sizes.pop(space, Held()), -1)
            if len(self._queue) > 2 * len(self._queued) + _MIN_SPENT:
                self._queue = [entry for entry in self._queue if entry[2]() in self._queued]
                heapq.heapify(self._queue)

    def _disown_all(self, names: Sequence[str]) -> None:
        for request_id in names:
            self.disown(request_id)

    # -- counting --------------------------------------------------------------------------------

    def _count(self, space: Space) -> None:
        index = space.index
        sizes = index.stats().num_blocks, index.num_named_blocks, space.window.num_keys
        now = Held(*sizes, space.conversations.num_blocks)
        self._add(self._sizes.get(space, Held()), -1)
        self._add(now, 1)
        self._sizes[space] = now

    def _add(self, held: Held, sign: int) -> None:
        self.held = Held(*(total + sign * n for total, n in zip(self.held, held, strict=True)))

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

    def _shed_recent(self) -> None:
        for space in list(self._recent):
            contexts = max(0, self.held.recent - self.max_blocks)
            talks = max(0, self.held.talks - self._max_talks)
            if not contexts and not talks:
                break
            if space.lock.acquire(blocking=False):
                try:
                    space.window.shed(contexts)
                    space.conversations.shed(talks)
                finally:
                    space.lock.release()
                self._count(space)
                if not space.window.num_keys and not space.conversations.num_blocks:
                    del self._recent[space]

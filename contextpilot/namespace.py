"""Everything learnt within one namespace, behind one lock."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from contextpilot.dedup.conversation import Conversations
from contextpilot.explain import Explanations
from contextpilot.index import ContextIndex, Watch
from contextpilot.plan.online import OnlinePlanner
from contextpilot.plan.support import SupportWindow

_MAX_OWNERS = 500_000


@dataclass
class Counts:
    """Sums over the requests of a namespace; tokens are of blocks only."""

    requests: int = 0
    tokens: int = 0
    live_tokens: int = 0
    hinted_blocks: int = 0

    def add(self, tokens: int, live_tokens: int) -> None:
        """Count one planned request."""
        self.requests += 1
        self.tokens += tokens
        self.live_tokens += live_tokens


@dataclass
class Namespace:
    """Index, history, conversations and counts of one tenant. Hold `lock` to use any of them."""

    planner: OnlinePlanner
    conversations: Conversations = field(default_factory=Conversations)
    explanations: Explanations = field(default_factory=Explanations)
    counts: Counts = field(default_factory=Counts)
    lock: threading.RLock = field(default_factory=threading.RLock)


class Namespaces:
    """Namespaces by name; the least recently used one goes when there are too many.

    Attributes:
        watcher: makes what is told of the changes of a namespace's index.
    """

    def __init__(self, max_blocks: int, window_size: int, max_namespaces: int) -> None:
        for name, value in (
            ("max_blocks", max_blocks),
            ("window_size", window_size),
            ("max_namespaces", max_namespaces),
        ):
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} must be an integer, not {value!r}")
            if value < 1:
                raise ValueError(f"{name} must be at least 1, but is {value}")
        self._max_blocks = max_blocks
        self._window_size = window_size
        self._max_namespaces = max_namespaces
        self._spaces: OrderedDict[str, Namespace] = OrderedDict()
        self._owners: OrderedDict[str, weakref.ref[Namespace]] = OrderedDict()
        self._lock = threading.Lock()
        self.watcher: Callable[[str], Watch] | None = None

    def __len__(self) -> int:
        return len(self._spaces)

    def own(self, request_id: str, space: Namespace) -> None:
        """Record which namespace a request belongs to; the oldest requests are let go."""
        with self._lock:
            self._owners[request_id] = weakref.ref(space)
            if len(self._owners) > _MAX_OWNERS:
                self._owners.popitem(last=False)

    def owner(self, request_id: str) -> Namespace | None:
        """Return the namespace that a request belongs to; None when it is not remembered."""
        reference = self._owners.get(request_id)
        return reference() if reference is not None else None

    def find(self, name: str) -> Namespace | None:
        """Return the namespace if there is one; unlike `get`, make none and let none go."""
        with self._lock:
            return self._spaces.get(name)

    def get(self, name: str) -> Namespace:
        """Return the namespace, made on first use."""
        if not isinstance(name, str):
            raise TypeError(f"namespace must be a string, not {type(name).__name__}")
        dropped = []
        with self._lock:
            space = self._spaces.get(name)
            if space is None:
                index, window = ContextIndex(self._max_blocks), SupportWindow(self._window_size)
                index.watch = self.watcher(name) if self.watcher is not None else None
                space = self._spaces[name] = Namespace(OnlinePlanner(index, window))
                while len(self._spaces) > self._max_namespaces:
                    dropped.append(self._spaces.popitem(last=False)[1])
            self._spaces.move_to_end(name)
        _clear(dropped)
        return space

    def items(self) -> list[tuple[str, Namespace]]:
        """Return the names and namespaces that there are now."""
        with self._lock:
            return list(self._spaces.items())

    def reset(self, name: str | None = None) -> None:
        """Forget one namespace, or all."""
        with self._lock:
            names = list(self._spaces) if name is None else [name]
            dropped = [self._spaces.pop(name) for name in names if name in self._spaces]
            if name is None:
                self._owners.clear()
        _clear(dropped)


def _clear(spaces: Iterable[Namespace]) -> None:
    """Free the indexes of namespaces that were dropped; takes their locks, so hold no other."""
    for space in spaces:
        with space.lock:
            space.planner.index.clear()
            space.planner.index.watch = None  # whoever still plans there tells nobody any more

"""Everything learnt within one namespace, behind one lock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from math import inf, log2
from typing import Any

from contextpilot.block import Block
from contextpilot.budget import Budget
from contextpilot.dedup.conversation import Conversations
from contextpilot.explain import Explanation, Explanations
from contextpilot.index import ContextIndex
from contextpilot.paths import Watch
from contextpilot.plan.online import OnlinePlanner
from contextpilot.plan.support import SupportWindow
from contextpilot.tokens import TokenScale

_HALF_LIFE_S = 3600.0
"""Age at which a use of a namespace counts half."""


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


@dataclass(eq=False)
class Namespace:
    """Index, history, conversations and counts of one tenant. Hold `lock` to use any of them."""

    planner: OnlinePlanner
    conversations: Conversations = field(default_factory=Conversations)
    explanations: Explanations = field(default_factory=Explanations)
    counts: Counts = field(default_factory=Counts)
    tokens: TokenScale = field(default_factory=TokenScale)
    lock: threading.RLock = field(default_factory=threading.RLock)
    home: object = None
    """Tells apart whose namespace this is, where several `Namespaces` share a budget."""
    use: float = -inf
    """How much it is used: see `_used`."""
    is_gone: bool = False

    @property
    def index(self) -> ContextIndex:
        """What the engine is believed to hold."""
        return self.planner.index

    @property
    def window(self) -> SupportWindow:
        """The recent contexts."""
        return self.planner.window

    @property
    def num_notes(self) -> int:
        """Blocks noted as dropped, and heads noted as recurring."""
        return self.index.num_dropped + self.planner.num_heads

    def stats(self) -> dict[str, Any]:
        """Return its counts and sizes, ready for JSON, under its own lock."""
        with self.lock:
            counts, index = asdict(self.counts), self.index.stats()._asdict()
            counts["conversations"] = len(self.conversations)
            weights = {"weights": self.tokens.source, "weight_ratio": self.tokens.ratio}
        return counts | index | weights

    def record(
        self,
        explanation: Explanation,
        num_hinted: int,
        conversation_id: str | None,
        blocks: Sequence[Block],
    ) -> None:
        """Note what became of a request, and what its conversation holds, under its own lock."""
        with self.lock:
            self.explanations.add(explanation)
            self.counts.hinted_blocks += num_hinted
            if conversation_id is not None:
                self.conversations.add(conversation_id, blocks)

    def shed_notes(self, count: int) -> None:
        """Forget so many of these notes, the oldest of the kind of which there are more."""
        dropped, heads = self.index.num_dropped, self.planner.num_heads
        left = max(0, dropped + heads - count)
        kept = min(heads, max(left // 2, left - dropped))
        self.planner.shed_heads(heads - kept)
        self.index.shed_dropped(dropped - (left - kept))

    def forget_request(self, request_id: str) -> None:
        """Forget a request's name, and why it hit or missed."""
        self.index.unname(request_id)
        self.explanations.forget(request_id)


class Namespaces:
    """Namespaces by name; the least used one goes when there are too many.

    Args:
        max_blocks: bound on the blocks of all namespaces, where no budget is given.
        window_size: recent contexts of a namespace that conditional support counts.
        max_namespaces: bound on their number.
        budget: bounds what they hold, together with others that share it.
        exact_weights: weights come from the caller's tokenizer, not from an estimate.

    Attributes:
        watcher: makes what is told of the changes of a namespace's index.
    """

    def __init__(
        self,
        max_blocks: int,
        window_size: int,
        max_namespaces: int,
        budget: Budget | None = None,
        clock: Callable[[], float] = time.monotonic,
        exact_weights: bool = False,
    ) -> None:
        for name, value in (
            ("max_blocks", max_blocks),
            ("window_size", window_size),
            ("max_namespaces", max_namespaces),
        ):
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} must be an integer, not {value!r}")
            if value < 1:
                raise ValueError(f"{name} must be at least 1, but is {value}")
        self.watcher: Callable[[str], Watch] | None = None
        self._budget = budget or Budget(max_blocks)
        self._window_size = window_size
        self._max_namespaces = max_namespaces
        self._clock = clock
        self._exact_weights = exact_weights
        self._home = object()
        self._spaces: dict[str, Namespace] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._spaces)

    def own(self, request_id: str, space: Namespace) -> None:
        """Record which namespace a request belongs to; the oldest requests are let go."""
        self._budget.own(request_id, space)

    def owner(self, request_id: str) -> Namespace | None:
        """Return the namespace that a request belongs to; None when it is not remembered."""
        space = self._budget.owner(request_id)
        return space if isinstance(space, Namespace) and space.home is self._home else None

    def settle(self, space: Namespace) -> None:
        """Let go what is too much, now that a namespace was used; call it without its lock."""
        self._budget.settle(space)

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
                space = self._make(name)
                if len(self._spaces) >= self._max_namespaces:
                    dropped.append(self._spaces.pop(min(self._spaces, key=self._use)))
                self._spaces[name] = space
            space.use = _used(space.use, self._clock())
        self._clear(dropped)
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
        self._clear(dropped)

    def watch(self, watcher: Callable[[str], Watch]) -> None:
        """Have a watch told of all that the indexes hold, and of every change; nothing if one is.

        Takes as long as there is much; other threads go on meanwhile.
        """
        if self.watcher is not None:
            return
        self.watcher = watcher
        for name, space in self.items():
            with space.lock:
                if space.index.watch is None and not space.is_gone:
                    space.index.tell(watcher(name))

    def _make(self, name: str) -> Namespace:
        index = ContextIndex(self._budget.max_blocks, tick=self._budget.tick)
        index.watch = self.watcher(name) if self.watcher is not None else None
        index.on_unnamed = self._budget.disown
        window = SupportWindow(self._window_size)
        tokens = TokenScale(self._exact_weights)
        return Namespace(OnlinePlanner(index, window), tokens=tokens, home=self._home)

    def _use(self, name: str) -> float:
        return self._spaces[name].use

    def _clear(self, spaces: Iterable[Namespace]) -> None:
        """Free the indexes of namespaces that were dropped; takes their locks, so hold no other."""
        for space in spaces:
            with space.lock:
                names = space.index.requests()
                space.index.clear()
                space.index.watch = None  # whoever still plans there tells nobody any more
                space.is_gone = True
            self._budget.leave(space, names)


def _used(use: float, now: float) -> float:
    """Return how much a namespace is used, once more now; comparable at any time.

    It is the logarithm of the sum of 2^(t/T) over the times of all uses, T being `_HALF_LIFE_S`: a
    use counts half of one that is T seconds younger. So who invents a thousand names drives out
    others that were used as seldom, and not those in use.
    """
    newest = now / _HALF_LIFE_S
    high, low = max(use, newest), min(use, newest)
    return high + log2(1 + 2 ** (low - high))

"""Engines' caches, each with the ledger that follows it: what the random machine drives."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from contextpilot_hooks.blocks import Registered, Step
from contextpilot_hooks.chain import ChainLedger
from contextpilot_hooks.ledger import Ledger
from contextpilot_hooks.points import Cache, PointLedger
from contextpilot_hooks.prefix import PrefixLedger
from contextpilot_hooks.sglang_tree import TreeWatch, WalkedTree
from radix_tree import RadixTree

SPACES = ("default", "tenant")


@dataclass
class Request:
    """A planned prompt. `read` tokens of it were computed; it is done when all were."""

    name: str
    space: str
    keys: tuple[str, ...]
    ends: tuple[int, ...]
    tokens: tuple[int, ...]
    read: int = 0


class ChainCache:
    """Blocks of 8 tokens under chained keys, as in vLLM."""

    size = 8
    dropped = 0
    sparse = False

    def __init__(self, bounds: dict[str, int]) -> None:
        self.held: dict[Hashable, None] = {}
        named = {"max_held": "max_blocks"}
        bounds = {named.get(name, name): bound for name, bound in bounds.items()}
        self.ledger = ChainLedger(self.size, self.held.__contains__, **bounds)

    def keys(self, request: Request, tokens: int | None = None) -> list[Hashable]:
        stop = (len(request.tokens) if tokens is None else tokens) // self.size
        ends = range(self.size, self.size * stop + 1, self.size)
        return [(request.space, request.tokens[:end]) for end in ends]

    def admit(self, request: Request) -> None:
        new = Registered(request.name, self.keys(request), len(request.tokens))
        self.ledger.hand_over(Step([new], []))

    def read(self, request: Request) -> None:
        keys = self.keys(request, request.read)
        new = [key for key in keys if key not in self.held]
        for key in keys:
            self.held.pop(key, None)
            self.held[key] = None
        self.ledger.hand_over(Step([], new))

    def evict(self, count: int, chance: random.Random) -> None:
        if chance.random() < 0.2:  # anywhere: what follows a hole is there, and not found
            gone = chance.sample(list(self.held), min(count, len(self.held)))
        else:
            inner = {(space, tokens[: -self.size]) for space, tokens in self.held}
            gone = [key for key in self.held if key not in inner][:count]
        for key in gone:
            del self.held[key]
        self.ledger.hand_over(Step([], gone))

    def reset(self) -> None:
        self.held.clear()
        self.ledger.clear()

    def match(self, request: Request, tokens: int | None = None) -> int:
        """What a prompt reuses that is the same up to so many tokens (None: to the end)."""
        keys = self.keys(request, tokens)
        found = next((n for n, key in enumerate(keys) if key not in self.held), len(keys))
        return max(0, found * self.size - self.dropped)

    def __len__(self) -> int:
        return len(self.held)


class DraftCache(ChainCache):
    """The last block of what could be reused is computed anew, as with EAGLE."""

    dropped = 8


class PointCache:
    """Layers of three kinds with full attention, a window of two blocks, and states: as in vLLM.

    Of window and states only what stands at the end of a read part is kept.
    """

    size = 8
    dropped = 0
    sparse = True
    window = 2

    def __init__(self, bounds: dict[str, int]) -> None:
        self.full: dict[Hashable, None] = {}
        self.windows: dict[Hashable, None] = {}
        self.states: dict[Hashable, None] = {}
        self.groups = (self.full, self.windows, self.states)
        named = {"max_held": "max_blocks"}
        bounds = {named.get(name, name): bound for name, bound in bounds.items()}
        cache = Cache(
            unit=self.size,
            step=self.size,
            dropped=self.dropped,
            reuse=self.reuse,
            state=lambda key: tuple(key in group for group in self.groups),
            floor=lambda length: length,
        )
        self.ledger = PointLedger(cache, **bounds)

    keys = ChainCache.keys
    admit = ChainCache.admit

    def reuse(self, keys: Sequence[Hashable]) -> int:
        """The longest reusable length of a prompt with these keys, in tokens."""
        full = next((n for n, key in enumerate(keys) if key not in self.full), len(keys))
        for end in range(full, 0, -1):
            window = keys[max(0, end - self.window) : end]
            if keys[end - 1] in self.states and all(key in self.windows for key in window):
                return max(0, end * self.size - self.dropped)
        return 0

    def match(self, request: Request, tokens: int | None = None) -> int:
        return self.reuse(self.keys(request, tokens))

    def read(self, request: Request) -> None:
        keys = self.keys(request, request.read)
        new = [(self.full, key) for key in keys]
        new += [(self.windows, key) for key in keys[-self.window :]]
        new += [(self.states, key) for key in keys[-1:]]
        changed = [key for group, key in new if key not in group]
        for group, key in new:
            group.pop(key, None)
            group[key] = None
        self.ledger.hand_over(Step([], changed))

    def evict(self, count: int, chance: random.Random) -> None:
        gone = []
        for _ in range(count):
            group = chance.choice(self.groups)
            oldest = list(group)[: 1 + len(group) // 2]
            if oldest:
                gone.append(chance.choice(oldest))
                del group[gone[-1]]
        self.ledger.hand_over(Step([], gone))

    def reset(self) -> None:
        for group in self.groups:
            group.clear()
        self.ledger.clear()

    def __len__(self) -> int:
        return sum(map(len, self.groups))


class DraftPointCache(PointCache):
    """The same, with the last block of what could be reused computed anew."""

    dropped = 8


class TreeCache:
    """Pages of 4 tokens in a radix tree, as in SGLang."""

    size = 4
    dropped = 0
    sparse = False

    def __init__(self, bounds: dict[str, int]) -> None:
        self.tree = RadixTree(self.size)
        named = {"max_held": "max_tokens"}
        bounds = {named.get(name, name): bound for name, bound in bounds.items()}
        self.ledger = PrefixLedger(self.size, **bounds)
        view = WalkedTree(self.tree, self.size, self.tree.first_page)
        self.watch = TreeWatch(view, self.ledger, salted=False)

    def key(self, request: Request, tokens: int | None = None) -> list[int]:
        salt = 10_000 * SPACES.index(request.space)  # as if it were another tree
        return [salt + token for token in request.tokens[:tokens]]

    def admit(self, request: Request) -> None:
        self.watch.admit(SimpleNamespace(rid=request.name, origin_input_ids=self.key(request)))

    def read(self, request: Request) -> None:
        key = self.key(request, request.read)
        self.tree.insert(key)
        self.watch.inserted(key)

    def evict(self, count: int, chance: random.Random) -> None:
        for _ in range(count):
            leaves = self.tree.leaves()
            if leaves:
                leaf = chance.choice(leaves[: len(leaves) // 2 + 1])
                self.tree.delete(leaf)
                self.watch.evicted(leaf.id)
        self.watch.settle()

    def reset(self) -> None:
        self.tree.reset()
        self.watch.reset()

    def match(self, request: Request, tokens: int | None = None) -> int:
        return int(self.tree.match(self.tree.aligned(self.key(request, tokens)))[0])

    def __len__(self) -> int:
        return len(self.tree.leaves())


class ToldCache(ChainCache):
    """An engine that tells the numbers of its requests itself."""

    def __init__(self, bounds: dict[str, int]) -> None:
        super().__init__({})
        self.ran: dict[str, Request] = {}
        self.ledger = Ledger(**{name: n for name, n in bounds.items() if name == "max_requests"})

    def admit(self, request: Request) -> None:
        """Nothing is told of what waits."""

    def read(self, request: Request) -> None:
        self.ran[request.name] = request
        for key in self.keys(request, request.read):
            self.held.pop(key, None)
            self.held[key] = None
        self.tell()

    def evict(self, count: int, chance: random.Random) -> None:
        inner = {(space, tokens[: -self.size]) for space, tokens in self.held}
        for key in [key for key in self.held if key not in inner][:count]:
            del self.held[key]
        self.tell()

    def tell(self) -> None:
        for request in self.ran.values():
            self.ledger.set(request.name, self.match(request), len(request.tokens))


CACHES: dict[str, Any] = {
    "chain": ChainCache,
    "prefix": TreeCache,
    "told": ToldCache,
    "points": PointCache,
    "draft": DraftCache,
    "draft points": DraftPointCache,
}

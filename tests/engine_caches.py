"""Engines' caches, each with the ledger that follows it: what the random machine drives."""

from __future__ import annotations

import random
from collections.abc import Hashable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from contextpilot_hooks.chain import ChainLedger, Registered, Step
from contextpilot_hooks.ledger import Ledger
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

    def match(self, request: Request) -> int:
        keys = self.keys(request)
        found = next((n for n, key in enumerate(keys) if key not in self.held), len(keys))
        return found * self.size

    def __len__(self) -> int:
        return len(self.held)


class TreeCache:
    """Pages of 4 tokens in a radix tree, as in SGLang."""

    size = 4

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

    def match(self, request: Request) -> int:
        return int(self.tree.match(self.tree.aligned(self.key(request)))[0])

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


CACHES: dict[str, Any] = {"chain": ChainCache, "prefix": TreeCache, "told": ToldCache}

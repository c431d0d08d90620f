"""A llama-server without a model: slots and a RAM cache of token lists, and the shim's events."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field

from contextpilot.sync.events import SlotEvent


def common(a: list[int], b: list[int]) -> int:
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))


@dataclass
class Copy:
    name: str
    tokens: list[int]

    @property
    def num_bytes(self) -> int:
        return 10 * len(self.tokens)


@dataclass
class Llama:
    """Slots and a RAM prompt cache that follow llama-server's rules (b11434)."""

    num_slots: int
    ram_bytes: int
    rng: random.Random
    slots: list[list[int]] = field(default_factory=list)
    ram: list[Copy] = field(default_factory=list)
    files: dict[str, list[int]] = field(default_factory=dict)
    events: list[SlotEvent] = field(default_factory=list)
    used: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.slots = [[] for _ in range(self.num_slots)]
        self._copies = itertools.count()

    def cut(self, slot: int, keep: int) -> None:
        if self.slots[slot]:
            self.slots[slot] = self.slots[slot][:keep]
            self.events.append(SlotEvent("slot", slot, keep, keep))

    def grow(self, slot: int, tokens: list[int]) -> None:
        while tokens:
            at = self.rng.randint(1, len(tokens))
            held = len(self.slots[slot])
            self.slots[slot] += tokens[:at]
            self.events.append(SlotEvent("slot", slot, held, held + at))
            tokens = tokens[at:]

    def save(self, slot: int) -> None:
        """Put a slot into the RAM cache, as llama-server does before it takes the slot."""
        held = self.slots[slot]
        if not held or any(common(copy.tokens, held) == len(held) for copy in self.ram):
            return
        self.ram = [c for c in self.ram if common(c.tokens, held) < len(c.tokens)]
        copy = Copy(str(next(self._copies)), list(held))
        self.ram.append(copy)
        self.events.append(SlotEvent("saved", slot, copy=copy.name, num_bytes=copy.num_bytes))
        while len(self.ram) > 1 and sum(c.num_bytes for c in self.ram) > self.ram_bytes:
            self.ram.pop(0)

    def load(self, slot: int, prompt: list[int]) -> None:
        """Restore the copy that serves the prompt better than the slot, if there is one."""
        here = common(self.slots[slot], prompt)
        keep = here / len(self.slots[slot]) if self.slots[slot] else -1.0
        similar, best = here / len(prompt), None
        for copy in self.ram:
            shared = common(copy.tokens, prompt)
            if shared / len(copy.tokens) < 0.25:
                continue
            if keep < shared / len(copy.tokens) and similar < shared / len(prompt):
                keep, similar, best = shared / len(copy.tokens), shared / len(prompt), copy
        if best is not None:
            self.ram.remove(best)
            self.slots[slot] = list(best.tokens)
            event = SlotEvent("loaded", slot, tokens=len(best.tokens), copy=best.name)
            self.events.append(event)

    def choose(self, prompt: list[int]) -> int:
        """Return the most similar slot, or else the one that was not used for longest."""
        shared = [common(tokens, prompt) for tokens in self.slots]
        if max(shared) > 0.1 * len(prompt):
            return shared.index(max(shared))
        return min(range(self.num_slots), key=lambda slot: self.used.get(slot, 0))

    def run(self, slot: int, prompt: list[int], generated: int, is_least_used: bool = False) -> int:
        """Run a prompt; return its cached tokens."""
        self.used[slot] = max(self.used.values(), default=0) + 1
        loses_much = common(self.slots[slot], prompt) * 2 < len(self.slots[slot])
        if self.ram_bytes and (loses_much or is_least_used):
            self.save(slot)
            self.load(slot, prompt)
        cached = min(common(self.slots[slot], prompt), len(prompt) - 1)
        self.cut(slot, cached)
        self.grow(slot, prompt[cached:])
        self.grow(slot, [self.rng.randrange(10**6, 10**7) for _ in range(generated - 1)])
        return cached

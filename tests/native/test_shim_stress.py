"""Random work like llama-server's, against a model that remembers every single token.

The model gives each computed token a number of its own, so that tokens of equal length or text
cannot stand in for each other. See slot_belief.py for the other side.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import count

import pytest
from slot_belief import Belief
from slot_driver import Driver
from slot_index import SlotIndex

pytestmark = pytest.mark.slow

SLOTS = 4
LIMIT = 400
Start = Callable[..., Driver]


class Model:
    """What the slots hold, token by token, and the calls that bring it about."""

    def __init__(self, driver: Driver, seed: int) -> None:
        self.call = driver
        self.random = random.Random(seed)
        self.numbers = count()
        self.slots: list[list[int]] = [[] for _ in range(SLOTS)]
        self.copies: dict[int, list[int]] = {}

    def step(self) -> None:
        """One thing that llama-server does."""
        slot = self.random.randrange(SLOTS)
        kinds = [self.prompt] * 5 + [self.generate] * 4
        kinds += [self.reuse_chunk, self.shift, self.copy, self.save, self.load, self.erase]
        self.random.choice(kinds)(slot)

    def grow(self, slot: int, tokens: int) -> None:
        held = self.slots[slot]
        tokens = min(tokens, LIMIT - len(held))
        if tokens > 0:
            self.call("process", slot, len(held), len(held) + tokens)
            held += [next(self.numbers) for _ in range(tokens)]

    def prompt(self, slot: int) -> None:
        held = self.slots[slot]
        reused = self.random.choice([0, len(held), self.random.randint(0, len(held))])
        self.call("rm", slot, reused, -1)
        del held[reused:]
        for _ in range(self.random.randint(1, 2)):
            self.grow(slot, self.random.randint(1, 120))

    def generate(self, slot: int) -> None:
        for _ in range(self.random.randint(1, 4)):
            self.grow(slot, 1)

    def cut(self, slot: int, moved: bool) -> None:
        held = self.slots[slot]
        if len(held) < 8:
            return
        begin, end = sorted(self.random.sample(range(1, len(held)), 2))
        self.call("rm", slot, begin, end)
        self.call("add", slot, end, len(held) if moved else -1, begin - end)
        del held[begin:end]

    def reuse_chunk(self, slot: int) -> None:
        self.cut(slot, moved=True)
        self.prompt(slot)

    def shift(self, slot: int) -> None:
        self.cut(slot, moved=False)
        self.generate(slot)

    def copy(self, slot: int) -> None:
        other = (slot + 1) % SLOTS
        self.call("rm", other, -1, -1)
        self.call("cp", slot, other, -1, -1)
        self.slots[other] = list(self.slots[slot])

    def save(self, slot: int) -> None:
        place = self.random.randrange(6)
        self.call("get", slot, place)
        self.copies[place] = list(self.slots[slot])

    def load(self, slot: int) -> None:
        if self.copies:
            place = self.random.choice(sorted(self.copies))
            self.call("set", slot, place)
            self.slots[slot] = self.copies.pop(place)

    def erase(self, slot: int) -> None:
        self.call("rm", slot, -1, -1)
        self.slots[slot] = []


@pytest.mark.parametrize("seed", range(3))
def test_belief_and_truth_never_differ(
    seed: int, sanitizers: str, index: SlotIndex, start: Start
) -> None:
    driver = start(index.url, sanitizers)
    model, belief = Model(driver, seed), Belief()
    marks = count(1)
    for _ in range(30):
        for _ in range(model.random.randint(1, 12)):
            model.step()
        at_rest(driver, index, next(marks))
        belief.read([event for event in index.events() if event.get("slot") != SLOTS])
        belief.compare(dict(enumerate(model.slots)))
    assert driver.end() == 0
    assert driver.stderr == ""


def at_rest(driver: Driver, index: SlotIndex, mark: int) -> None:
    """Wait until the index has heard of everything: a slot of our own shows it."""
    driver("process", SLOTS, mark - 1, mark)
    index.wait(lambda: index.slots().get(SLOTS) == mark)

"""Slots to requests: against a simulated llama-server whose every cell has a name of its own."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_llama import Llama, common

from contextpilot.index import ContextIndex
from contextpilot.sync.events import Event, SlotEvent
from contextpilot.sync.sources.base import PromptCounts
from contextpilot.sync.sources.llama_slots import EXPIRE_S, SETTLE_S, SlotTranslator

RAM = 2_000


@dataclass
class World:
    """A llama-server, requests of ours and of others, and a translator that hears late."""

    seed: int
    ram_bytes: int = 0
    order: str = "prompt"
    pinned: bool = True
    others: bool = True
    longest_tail: int = 1

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.llama = Llama(self.rng.choice((1, 2, 4)), self.ram_bytes, self.rng)
        self.now = 0.0
        self.translator = SlotTranslator(lambda: self.now)
        self.translator.limit_ram(self.ram_bytes)
        self.heard = 0
        self.index = ContextIndex()
        self.prompts: dict[str, list[int]] = {}
        self.late: list[PromptCounts] = []
        self.told: dict[str, int] = {}
        self.blocks = [[100 * b + i for i in range(self.rng.randint(3, 20))] for b in range(8)]

    def hear(self, upto: int | None = None) -> None:
        events = self.llama.events[self.heard : upto]
        self.heard += len(events)
        self.note(self.translator.apply(events))

    def note(self, events: list[Event]) -> None:
        for event in events:
            assert event.kind != "cached" or event.tokens > 0
            self.told[event.request] = event.tokens
            if event.kind == "unfollowed":
                self.index.release(event.request)
            else:
                self.index.limit_cached(event.request, event.tokens, event.prompt_tokens)

    def request(self, name: str | None) -> None:
        rng = self.rng
        blocks = rng.sample(self.blocks, rng.randint(1, 4))
        tail = rng.randint(1, self.longest_tail)
        prompt = [t for block in blocks for t in block] + [rng.randrange(10**4, 10**5)] * tail
        slot, generated = rng.randrange(self.llama.num_slots), rng.randint(1, 6)
        since = self.translator.position
        cached = self.llama.run(slot, prompt, generated)
        if name is None:
            return
        self.prompts[name] = prompt
        ends = list(itertools.accumulate(map(len, blocks)))
        self.index.insert([block[0] for block in blocks], name, ends, len(prompt))
        where = slot if self.pinned else None
        self.late.append(PromptCounts(name, where, cached, len(prompt), generated, since))

    def upset(self) -> None:
        """Do something that is no request."""
        rng, llama = self.rng, self.llama
        slot, other = rng.randrange(llama.num_slots), rng.randrange(llama.num_slots)
        what = rng.choice(("erase", "copy", "file", "restore", "shift", "idle"))
        held = len(llama.slots[slot])
        if what == "erase":
            llama.cut(slot, 0)
        elif what == "copy" and slot != other and held:
            llama.slots[other] = list(llama.slots[slot])
            llama.events.append(SlotEvent("copied", slot, to=other))
        elif what == "file" and held:
            name = f"file-{rng.randrange(3)}"
            llama.files[name] = list(llama.slots[slot])
            llama.events.append(SlotEvent("saved", slot, copy=name))
        elif what == "restore" and llama.files:
            name = rng.choice(sorted(llama.files))
            llama.slots[slot] = list(llama.files[name])
            tokens = len(llama.slots[slot])
            llama.events.append(SlotEvent("loaded", slot, tokens=tokens, copy=name))
        elif what == "shift" and held > 4:
            moved = llama.slots[slot][4:]
            llama.cut(slot, 2)
            llama.grow(slot, moved)
        elif what == "idle" and llama.ram_bytes and held:
            llama.save(slot)
            llama.cut(slot, 0)

    def step(self, number: int) -> None:
        dice, before = self.rng.random(), len(self.llama.events)
        if dice < 0.6:
            self.request(f"r{number}")
        elif dice < 0.8 and self.others:
            self.request(None)
        else:
            self.upset()
        rng, num_events = self.rng, len(self.llama.events)
        if self.order == "prompt":
            self.hear()
            self.deliver()
        elif self.order == "late answers":
            self.hear()
            self.deliver(rng.choice((0, 0, rng.randint(0, len(self.late)))))
        else:
            self.deliver()
            self.hear(rng.randint(max(self.heard, before), num_events))

    def run(self) -> None:
        """Do everything, and let it settle."""
        for number in range(40):
            self.step(number)
        self.hear()
        self.deliver()
        for seconds in (SETTLE_S, EXPIRE_S):
            self.now += seconds
            self.note(self.translator.apply([]))

    def deliver(self, count: int | None = None) -> None:
        self.rng.shuffle(self.late)
        for answer in self.late[:count]:
            self.note(self.translator.answered(answer))
        del self.late[: len(self.late) if count is None else count]

    def truth(self, name: str) -> tuple[int, int]:
        """Return how many leading tokens of the prompt a request finds, and how many are there.

        Of a copy in RAM, a request finds nothing unless it uses a quarter of it.
        """
        prompt = self.prompts[name]
        slots = [common(tokens, prompt) for tokens in self.llama.slots]
        ram = [(common(copy.tokens, prompt), len(copy.tokens)) for copy in self.llama.ram]
        found = [shared for shared, tokens in ram if 4 * shared >= tokens]
        return max(slots + found), max(slots + [shared for shared, _ in ram])

    def check(self, name: str) -> None:
        """The index believes in the whole blocks that are there, in all of them and no others."""
        truth, prompt = self.truth(name), self.prompts[name]
        ends = list(itertools.accumulate(map(len, self.split(prompt))))
        least, most = (max((e for e in ends if e <= t), default=0) for t in truth)
        live = self.index.live_tokens(name)
        assert live is not None
        assert least <= live <= most, name
        assert self.told.get(name, 0) <= truth[1]

    def split(self, prompt: list[int]) -> list[list[int]]:
        """Return the blocks of a prompt."""
        groups = itertools.groupby(prompt, lambda token: token // 100)
        return [list(group) for _, group in groups][:-1]


seeds = st.integers(0, 2**32)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(seeds)
def test_belief_is_the_truth_where_answers_come_after_their_events(seed: int) -> None:
    world = World(seed, others=False)
    for number in range(40):
        world.step(number)
        for name in world.prompts:
            world.check(name)
    assert world.translator.counts == (len(world.prompts), 0)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(seeds)
def test_belief_is_the_truth_with_a_ram_cache(seed: int) -> None:
    """A prompt that ran twice from scratch may keep its older copy in our books, and only that."""
    world = World(seed, ram_bytes=RAM, others=False)
    for number in range(40):
        world.step(number)
        for name in world.prompts:
            world.check(name)


@pytest.mark.parametrize("pinned", [True, False])
@settings(deadline=None, max_examples=60)
@given(seed=seeds)
def test_late_answers_never_make_belief_exceed_the_truth(seed: int, pinned: bool) -> None:
    world = World(seed, order="late answers", pinned=pinned)
    world.run()
    for name in world.prompts:
        assert world.told.get(name, 0) <= world.truth(name)[1], name
    believed = world.translator.believed()
    assert believed == {name: tokens for name, tokens in world.told.items() if tokens}
    matched, unmatched = world.translator.counts
    assert matched + unmatched == len(world.prompts)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(seed=seeds)
def test_answers_that_come_before_their_events_find_their_runs(seed: int) -> None:
    """The last request's events lag behind its answer; prompts differ in length."""
    world = World(seed, order="late events", others=False, longest_tail=3000)
    world.run()
    assert world.translator.counts == (len(world.prompts), 0)
    for name in world.prompts:
        world.check(name)


# -- one at a time ---------------------------------------------------------------------------------


def slot(number: int, keep: int, tokens: int) -> SlotEvent:
    return SlotEvent("slot", number, keep, tokens)


def test_a_turn_that_extends_its_slot_exactly_is_found() -> None:
    made = SlotTranslator(lambda: 0.0)
    made.apply([slot(0, 0, 103), slot(0, 103, 103), slot(0, 103, 153), slot(0, 153, 155)])
    assert made.answered(PromptCounts("a", 0, 0, 100, 4)) == [Event("cached", "a", 100, 100)]
    assert made.answered(PromptCounts("b", 0, 103, 150, 6)) == [Event("cached", "b", 150, 150)]
    assert made.apply([slot(0, 120, 120)]) == [Event("truncated", "b", 120, 150)]
    assert made.requests(0) == [("a", 100), ("b", 120)]


def test_of_two_runs_that_fit_alike_neither_is_taken() -> None:
    now = 0.0
    made = SlotTranslator(lambda: now)
    made.apply([slot(0, 0, 103), slot(0, 0, 0), slot(0, 0, 103)])
    assert made.answered(PromptCounts("a", 0, 0, 100, 4)) == []
    now = SETTLE_S
    assert made.apply([]) == [Event("unfollowed", "a")]
    assert made.counts == (0, 1)


def test_a_run_before_the_request_was_sent_is_not_its_own() -> None:
    made = SlotTranslator(lambda: 0.0)
    made.apply([slot(0, 0, 103)])
    assert made.answered(PromptCounts("a", 0, 0, 100, 4, since=made.position)) == []
    assert made.apply([slot(0, 0, 0), slot(0, 0, 103)]) == [Event("cached", "a", 100, 100)]


def test_without_a_slot_a_run_is_taken_only_once_all_are_in() -> None:
    now = 0.0
    made = SlotTranslator(lambda: now)
    made.apply([slot(1, 0, 103)])
    assert made.answered(PromptCounts("a", None, 0, 100, 4)) == []
    now = SETTLE_S
    assert made.apply([]) == [Event("cached", "a", 100, 100)]


def test_a_broken_off_request_is_not_believed() -> None:
    made = SlotTranslator(lambda: 0.0)
    assert made.broken_off("a") == [Event("unfollowed", "a")]


def test_after_a_snapshot_what_was_kept_is_known_and_the_rest_has_no_name() -> None:
    made = SlotTranslator(lambda: 0.0)
    made.apply([slot(0, 0, 103), slot(1, 0, 203)])
    made.answered(PromptCounts("a", 0, 0, 100, 4))
    made.answered(PromptCounts("b", 1, 0, 200, 4))
    made.answered(PromptCounts("c", 1, 50, 300, 4))
    told = made.apply([slot(0, 60, 400)], snapshot=True)
    assert told == [
        Event("truncated", "b", 0, 200),
        Event("cached", "a", 60, 100),
        Event("unfollowed", "c"),
    ]
    assert (made.tokens(0), made.tokens(1)) == (400, 0)
    assert made.requests(0) == [("a", 60)]
    assert made.answered(PromptCounts("d", 0, 60, 390, 4)) == []


def test_ram_copies_count_only_while_their_limit_is_known() -> None:
    made = SlotTranslator(lambda: 0.0)
    made.apply([slot(0, 0, 103)])
    made.answered(PromptCounts("a", 0, 0, 100, 4))
    away = [SlotEvent("saved", 0, copy="0", num_bytes=500), slot(0, 0, 0)]
    assert made.apply(away) == [Event("truncated", "a", 0, 100)]
    made.limit_ram(800)
    assert made.apply([]) == [Event("cached", "a", 100, 100)]
    other = [slot(1, 0, 50), SlotEvent("saved", 1, copy="1", num_bytes=400)]
    assert made.apply(other) == [Event("truncated", "a", 0, 100)]  # beyond the limit


def test_memory_is_bounded() -> None:
    made = SlotTranslator(lambda: 0.0)
    for number in range(200):
        made.apply([slot(0, 5, 5), slot(0, 5, 50 + number)])
        made.answered(PromptCounts(f"r{number}", 0, 5, 50 + number, 1, since=made.position - 2))
    assert len(made.requests(0)) <= 64
    assert len(made.believed()) <= 64
    for number in range(500):
        made.answered(PromptCounts(f"lost{number}", 0, 7, 60))
    assert made.num_pending <= 256

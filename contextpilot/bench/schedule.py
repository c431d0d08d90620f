"""Runs all arms against one engine: each from a cold cache, taking turns, so that drift cancels."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias, TypeVar

from contextpilot.bench.arms import SERVED, Arm
from contextpilot.bench.drive import Sender, Sent
from contextpilot.bench.engine import EngineUnderTest, Facts
from contextpilot.bench.prompts import Prompt, Requests, written

Order: TypeAlias = Literal["auto", "interleaved", "sequential"]
ORDERS: tuple[Order, ...] = ("auto", "interleaved", "sequential")
Progress = Callable[[int, int], None]
_Item = TypeVar("_Item")

_ROOM = 0.9
"""Share of the cache that the arms' prompts together may fill if they take turns in it."""
_CHARS_PER_TOKEN = 3.0
"""Low, so that the estimate of the tokens is high."""


@dataclass(frozen=True)
class Schedule:
    """How a run goes.

    Attributes:
        repetitions: of the whole workload, for each arm, each from a cold cache.
        slice_size: requests of one arm before it is the next arm's turn.
        concurrency: requests of one arm in flight.
        warmup: requests sent before, not counted.
        order: interleaved: arms take turns slice by slice, all of them in the cache together, kept
            apart by a salt at the head of every prompt. sequential: one arm after another, for
            caches in which arms would evict each other. auto: interleaved if all arms fit.
    """

    repetitions: int = 3
    slice_size: int = 8
    concurrency: int = 1
    warmup: int = 4
    order: Order = "auto"


class Slice(NamedTuple):
    """Consecutive requests of one arm: how they went, and the seconds."""

    seconds: float
    sent: Sequence[Sent]


@dataclass
class Pass:
    """One arm's way through the workload, once."""

    arm: Arm
    repetition: int
    steps: Iterator[Prompt]
    prompts: list[Prompt] = field(default_factory=list)
    slices: list[Slice] = field(default_factory=list)

    @property
    def sent(self) -> list[Sent]:
        """All requests in execution order."""
        return [sent for part in self.slices for sent in part.sent]

    @property
    def seconds(self) -> float:
        """Wall time of all slices."""
        return sum(part.seconds for part in self.slices)


@dataclass(frozen=True)
class Isolation:
    """How arms were kept out of each other's caches."""

    order: Order
    why: str
    resets: bool

    def text(self, facts: Facts) -> str:
        """Return one sentence for people."""
        turns = "Modes took turns in slices" if self.order == "interleaved" else "Modes one by one"
        salt = "each mode and repetition starts its prompts with its own salt"
        if self.resets:
            return f"{turns} ({self.why}); {salt}, and the engine's cache was emptied before"
        hint = facts.kind.reset_hint
        return f"{turns} ({self.why}); {salt}; the engine's cache could not be emptied" + (
            f" (that needs {hint})" if hint else ""
        )


class Run:
    """One run. For use within one event loop.

    Args:
        urls: where each arm's requests go, by its name.
    """

    def __init__(
        self,
        engine: EngineUnderTest,
        facts: Facts,
        sender: Sender,
        requests: Requests,
        schedule: Schedule,
        urls: dict[str, str],
    ) -> None:
        self._engine = engine
        self._facts = facts
        self._sender = sender
        self._requests = requests
        self._schedule = schedule
        self._urls = urls

    async def measure(
        self, arms: Sequence[Arm], progress: Progress
    ) -> tuple[list[Pass], Isolation]:
        """Warm up, then run every arm in every repetition."""
        await self._warm_up(arms)
        order, why = self._order(len(arms))
        passes: list[Pass] = []
        resets = True
        for repetition in range(self._schedule.repetitions):
            turn = _turned(arms, repetition)
            for group in [turn] if order == "interleaved" else [[arm] for arm in turn]:
                resets = await self._engine.reset(self._facts) and resets
                group_passes = [self._begin(arm, repetition) for arm in group]
                done = sum(len(each.sent) for each in passes)
                total = len(arms) * self._schedule.repetitions * len(self._requests)
                await self._run_slices(group_passes, done, total, progress)
                passes += group_passes
        return passes, Isolation(order, why, resets)

    def _begin(self, arm: Arm, repetition: int) -> Pass:
        return Pass(arm, repetition, arm.write(self._requests, secrets.token_hex(6)))

    async def _run_slices(
        self, passes: Sequence[Pass], done: int, total: int, progress: Progress
    ) -> None:
        num_slices = -(-len(self._requests) // self._schedule.slice_size)
        for number in range(num_slices):
            for each in _turned(passes, number):
                each.slices.append(await self._slice(each))
                done += len(each.slices[-1].sent)
                progress(done, total)

    async def _slice(self, current: Pass) -> Slice:
        url, sent = self._urls[current.arm.name], []
        started = time.perf_counter()
        prompts = itertools.islice(current.steps, self._schedule.slice_size)

        async def work() -> None:
            for prompt in prompts:
                current.prompts.append(prompt)
                sent.append(await self._sender.send(url, prompt))

        await asyncio.gather(*(work() for _ in range(self._schedule.concurrency)))
        return Slice(time.perf_counter() - started, sent)

    async def _warm_up(self, arms: Sequence[Arm]) -> None:
        """Plan the first requests, and send them as given to every URL.

        Planners that are measured do not see them; what a planner imports is there afterwards.
        """
        salt = secrets.token_hex(6)
        first = self._requests.first(self._schedule.warmup)
        for arm in arms:
            if first and arm.name not in SERVED:
                list(arm.write(first, salt))
        for position in range(len(first)):
            order = range(len(first.contexts[position]))
            prompt = written(first, position, order, salt)
            for url in dict.fromkeys(self._urls.values()):
                await self._sender.send(url, prompt)

    def _order(self, num_arms: int) -> tuple[Order, str]:
        if self._schedule.order != "auto":
            return self._schedule.order, "as requested"
        cache = self._facts.cache
        if cache.num_slots is not None:
            return "sequential", "this engine keeps one prompt per slot"
        if cache.tokens is None:
            return "sequential", "the size of the cache is unknown"
        chars = sum(len(block.text) for blocks in self._requests.contexts for block in blocks)
        needed = int(num_arms * chars / _CHARS_PER_TOKEN)
        if needed > _ROOM * cache.tokens:
            return (
                "sequential",
                f"together they would overflow the cache of {cache.tokens:,} tokens",
            )
        return "interleaved", f"the cache of {cache.tokens:,} tokens holds all of them"


def _turned(items: Sequence[_Item], by: int) -> list[_Item]:
    """Return the items, another one first each time, and backwards every other time."""
    start = by % len(items)
    turned = [*items[start:], *items[:start]]
    return turned[::-1] if by % 2 else turned

"""A random machine: engines' caches -> ledgers -> reporters -> a lossy wire -> receiver -> index.

What the index believes must never be above the truth once everything was delivered, and must not
be needlessly below it: what an engine follows and holds is believed.
"""

from __future__ import annotations

import json
import random
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from contextpilot_hooks.blocks import BlockLedger
from contextpilot_hooks.reporter import Reporter
from contextpilot_hooks.settings import Engine as Name
from contextpilot_hooks.settings import Settings
from contextpilot_hooks.transport import Answer, NotDelivered
from engine_caches import CACHES, SPACES, Request

from contextpilot.namespace import Namespace, Namespaces
from contextpilot.server.pool.member import Engine as Place
from contextpilot.server.pool.pool_receiver import PoolReceiver
from contextpilot.sync.events import answer_message, parse_message
from contextpilot.sync.receiver import CREDIT_S, GONE_AFTER_S, Owner, SyncReceiver


@dataclass(frozen=True)
class Features:
    """What a run is made of; bounds of 0 are the defaults."""

    ledger: str = "chain"
    form: str = "library"
    num_engines: int = 1
    loss: bool = True
    restarts: bool = True
    lost_index: bool = False
    max_requests: int = 0
    max_held: int = 0
    max_index: int = 100_000
    capacity: int = 0
    """Entries that a cache may hold; what is more goes at once."""
    all_run: bool = False
    """Every request is sent, and read to its end: nothing may be believed on credit then."""


@dataclass
class EngineRun:
    """One engine: its cache, its reporter, and the requests on their way through it."""

    name: str
    cache: Any
    reporter: Reporter
    waiting: list[Request] = field(default_factory=list)
    running: list[Request] = field(default_factory=list)


class World:
    """One run, from a seed."""

    def __init__(self, seed: int, features: Features) -> None:
        self.chance = random.Random(seed)
        self.features = features
        self.now = 1000.0
        self.counter = 0
        self.counts: Counter[str] = Counter()
        self.late: deque[bytes] = deque(maxlen=20)
        self.is_lossy = features.loss
        self.docs = [(f"d{n}", self.chance.randint(3, 30)) for n in range(12)]
        self.new_index()
        self.engines = [self.new_engine(f"e{n}") for n in range(features.num_engines)]

    # -- parts -----------------------------------------------------------------------------------

    def new_index(self) -> None:
        self.requests: dict[str, Request] = {}
        self.evicted: set[str] = set()
        self.spaces = Namespaces(self.features.max_index, 64, 8)
        if self.features.form == "library":
            self.receiver = SyncReceiver(self.owner, lambda: self.now, self.owners)
        else:
            place = Place("place", "http://127.0.0.1:1", self.spaces)
            self.receiver = PoolReceiver(lambda: [place], lambda: self.now)

    def owner(self, request: str) -> Owner | None:
        space: Namespace | None = self.spaces.owner(request)
        return Owner(space.planner.index, space.lock) if space is not None else None

    def owners(self) -> list[Owner]:
        return [Owner(space.planner.index, space.lock) for _, space in self.spaces.items()]

    def new_engine(self, name: str) -> EngineRun:
        wanted = {"max_requests": self.features.max_requests, "max_held": self.features.max_held}
        cache = CACHES[self.features.ledger]({what: n for what, n in wanted.items() if n})
        settings = Settings(False, "127.0.0.1", 1, "", "")
        who = Name(name, "vllm", "1", cache.size, cache.dropped, cache.sparse)
        reporter = Reporter(cache.ledger, settings, who)
        cache.ledger.on_change = lambda: None
        reporter._transport = SimpleNamespace(post=self.post)  # type: ignore[assignment]
        reporter._stop.wait = lambda timeout=None: False  # type: ignore[method-assign]
        return EngineRun(name, cache, reporter)

    # -- the wire --------------------------------------------------------------------------------

    def post(self, body: bytes) -> Answer:
        if self.is_lossy and self.chance.random() < 0.12:
            raise NotDelivered("lost on the way")
        if self.is_lossy and self.late and self.chance.random() < 0.08:
            self.take(self.chance.choice(self.late))  # an old one, again
        self.late.append(body)
        answer = self.take(body)
        if self.is_lossy and self.chance.random() < 0.08:
            raise NotDelivered("the answer was lost")
        return answer

    def take(self, body: bytes) -> Answer:
        message = parse_message(json.loads(body))
        self.counts.update(event.kind for event in message.events)
        self.counts["snapshots"] += message.snapshot
        answer = answer_message(self.receiver.receive(message))
        return Answer(answer["status"], answer["version"])

    def report(self, engine: EngineRun, messages: int, heartbeat: bool = False) -> None:
        for _ in range(messages):
            message = engine.reporter._next_message(heartbeat=heartbeat)
            if message is None:
                return
            engine.reporter._deliver(message)

    # -- what happens ----------------------------------------------------------------------------

    def plan(self, space: str = "") -> Request:
        chance = self.chance
        space = space or chance.choice(SPACES)
        known = [request for request in self.requests.values() if request.space == space]
        docs = ["system"]
        if known and chance.random() < 0.6:
            base = chance.choice(known)
            docs = [*base.keys[: chance.randint(1, len(base.keys))]]
        rest = [name for name, _ in self.docs if name not in docs]
        docs += chance.sample(rest, chance.randint(0, min(3, len(rest))))
        tokens: list[int] = []
        ends = []
        for doc in docs:
            number, length = int(doc[1:]) if doc != "system" else 99, dict(self.docs).get(doc, 11)
            tokens += [number] * length
            ends.append(len(tokens))
        tokens += [chance.randint(1000, 1010) for _ in range(chance.randint(1, 12))]
        self.counter += 1
        name = f"cp-{self.counter:024x}"
        request = Request(name, space, tuple(docs), tuple(ends), tuple(tokens))
        home = self.spaces.get(space)
        with home.lock:
            home.planner.index.insert(request.keys, name, request.ends, len(tokens))
            self.spaces.own(name, home)
        self.requests[name] = request
        return request

    def send(self, request: Request) -> None:
        engine = self.chance.choice(self.engines)
        engine.cache.admit(request)
        engine.waiting.append(request)

    def advance(self, engine: EngineRun, whole: bool = False) -> None:
        """Read a part of some request's prompt, or all that is left."""
        if engine.waiting and (whole or self.chance.random() < 0.7):
            request = engine.waiting.pop(0)
            request.read = engine.cache.match(request)
            engine.running.append(request)
        if engine.running:
            request = self.chance.choice(engine.running)
            left = len(request.tokens) - request.read
            request.read += left if whole else self.chance.randint(0, left)
            engine.cache.read(request)
            if request.read == len(request.tokens):
                engine.running.remove(request)
        if self.features.capacity and len(engine.cache) > self.features.capacity:
            engine.cache.evict(len(engine.cache) - self.features.capacity, self.chance)

    def step(self) -> None:
        chance, engine = self.chance, self.chance.choice(self.engines)
        self.now += chance.random()
        dice = chance.random()
        if dice < 0.22:
            request = self.plan()
            if self.features.all_run or chance.random() < 0.9:  # else it never reaches an engine
                self.send(request)
        elif dice < 0.50:
            self.advance(engine)
        elif dice < 0.62:
            engine.cache.evict(chance.randint(1, 5), chance)
        elif dice < 0.64 and engine.waiting and not self.features.all_run:
            engine.waiting.pop(chance.randrange(len(engine.waiting)))  # aborted
        elif dice < 0.655:
            self.rare(engine)
        elif dice < 0.66 and self.requests:
            self.evicted.update(chosen := chance.sample(list(self.requests), 1))
            self.receiver.evict(chosen)
        else:
            self.report(engine, chance.randint(1, 3), heartbeat=chance.random() < 0.3)

    def rare(self, engine: EngineRun) -> None:
        what = self.chance.choice(("reset", "restart", "index", "silence", "lose"))
        self.counts[what] += 1
        if what == "reset":
            engine.cache.reset()
        elif what == "restart" and self.features.restarts:
            if self.chance.random() < 0.3:
                self.report(engine, 3)
            self.engines[self.engines.index(engine)] = self.new_engine(engine.name)
        elif what == "index" and self.features.lost_index:
            self.new_index()
        elif what == "silence":
            self.now += 1.5 * GONE_AFTER_S
        elif what == "lose" and hasattr(engine.cache, "watch"):
            engine.cache.watch.lose()
        elif what == "lose" and isinstance(engine.cache.ledger, BlockLedger):
            engine.cache.ledger.invalidate()

    def deliver(self) -> None:
        """Let all that is under way end, and everything be delivered."""
        self.is_lossy = False
        for engine in self.engines:
            while engine.waiting or engine.running:
                self.advance(engine, whole=True)
        for engine in self.engines:
            self.report(engine, 40, heartbeat=True)
        self.is_lossy = self.features.loss

    def expire(self) -> None:
        """Let credit expire of what was planned and told of by none."""
        self.is_lossy = False
        for _ in range(12):  # the engine tells of one request after the other
            self.now += CREDIT_S / 8
            for space in SPACES:
                self.send(self.plan(space))
            for engine in self.engines:
                while engine.waiting:
                    self.advance(engine, whole=True)
                self.report(engine, 3, heartbeat=True)
        self.is_lossy = self.features.loss

    # -- truth -----------------------------------------------------------------------------------

    def above(self) -> Iterator[str]:
        """Say of which requests more is believed than any engine holds."""
        size, dropped = self.engines[0].cache.size, self.engines[0].cache.dropped
        for request in self.requests.values():
            index = self.spaces.get(request.space).planner.index
            for shared, end in enumerate(request.ends, start=1):
                truth = max(engine.cache.match(request, end) for engine in self.engines)
                matched = index.match(request.keys[:shared])
                believed = request.ends[matched - 1] // size * size - dropped if matched else 0
                if believed > truth:
                    yield f"{request.name[-4:]}: {matched} of {shared}, {believed}; held {truth}"
            truth = max(engine.cache.match(request) for engine in self.engines)
            live = index.live_tokens(request.name)
            if live is not None and live > truth:
                yield f"{request.name[-4:]}: {live} live tokens; held {truth}"

    def below(self) -> Iterator[str]:
        """Say of which requests less is believed than the engine that follows them told."""
        for engine in self.engines:
            size, reported = engine.cache.size, engine.cache.ledger._reported
            for name, mark in reported.items():
                request = self.requests.get(name)
                if request is None or self.spaces.owner(name) is None or name in self.evicted:
                    continue
                index = self.spaces.get(request.space).planner.index
                matched, holds = index.match(request.keys), engine.cache.match(request)
                points = ((0, mark.tokens),) if mark.points is None else mark.points
                lengths = [n for a, b in points for n in range(a, b + 1, size)]
                kept = max(
                    (i for i, end in enumerate(request.ends, 1) if end // size * size in lengths),
                    default=0,
                )
                told = max(0, mark.tokens - engine.cache.dropped)
                if told > holds:
                    yield f"{name[-4:]}: told {told}, holds {holds}"
                if matched < kept and name in index:
                    yield f"{name[-4:]}: {matched} blocks believed of {kept} told"

    def run(self, steps: int, every: int = 50) -> list[str]:
        """Return what was wrong whenever all was quiet: nothing, one hopes."""
        wrong: list[str] = []
        for number in range(1, steps + 1):
            self.step()
            if number % every == 0:
                self.deliver()
                if self.features.all_run:
                    wrong += [f"step {number}: above, on credit: {text}" for text in self.above()]
                self.expire()
                self.counts["checks"] += len(self.requests)
                wrong += [f"step {number}: above: {text}" for text in self.above()]
                if self.features.max_index > 1000:
                    wrong += [f"step {number}: below: {text}" for text in self.below()]
                if wrong:
                    break
        return wrong


def variants() -> list[tuple[str, Features]]:
    """The kinds of runs, by name."""
    found = []
    for ledger in CACHES:
        for form in ("library", "server"):
            base = Features(ledger, form)
            found += [
                (f"{ledger}, {form}", base),
                (f"{ledger}, {form}, nothing lost", replace(base, loss=False, restarts=False)),
                (f"{ledger}, {form}, index restarts", replace(base, lost_index=True)),
                (f"{ledger}, {form}, low bounds", replace(base, max_requests=4, max_held=40)),
                (f"{ledger}, {form}, small index", replace(base, max_index=30)),
                (f"{ledger}, {form}, all run", replace(base, all_run=True, capacity=12)),
                (f"{ledger}, {form}, two engines", replace(base, num_engines=2)),
                (
                    f"{ledger}, {form}, two engines, low bounds, index restarts",
                    replace(base, num_engines=2, max_requests=4, max_held=40, lost_index=True),
                ),
            ]
    return found

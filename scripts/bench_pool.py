"""Print hits, balance and times of many engines behind the server's pool, and behind other routers.

    python scripts/bench_pool.py WORKLOADS [--engines 8 64] [--load 0.7] [--cache 60%] [--steady]

Simulated engines with prefix caches of their own serve the requests of all workload files in a
folder, mixed at random, each file a tenant with a system prompt of its own. They come at random
(Poisson), at `--load` times what all engines serve when nothing hits. During the run, unless
`--steady`, an eighth of the engines joins after a quarter of the requests, as many leave after
half, an eighth restarts empty after three quarters. The pool, its routing, lines, planners and
index are the server's own, on an event loop whose clock is simulated; engines tell of evictions at
once.

| router                | goes to                                                     | blocks  |
|-----------------------|-------------------------------------------------------------|---------|
| round robin           | the next engine                                             | given   |
| prefix hash           | the engine of the hash of system prompt and first block     | given   |
| round robin, planned  | the next engine                                             | planned |
| prefix hash, planned  | the same hash, of what one planner for all engines wrote    | planned |
| pool                  | where least has to be computed before the first token       | planned |

The hash is rendezvous hashing with bounded load: of engines with more than 1.25 times the mean of
requests none gets another. Times are until the first token, in seconds of the simulated engines.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from bench_waiting import SimulatedClock, quantile
from machine import machine_line
from workloads import workload_files

from contextpilot.block import Block, BlockKey, content_key, unique
from contextpilot.commands.capacity import resolve
from contextpilot.commands.workload import read_workload
from contextpilot.namespace import Namespaces
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import Head
from contextpilot.plan.simulate import PrefixCache
from contextpilot.planning import Job, LocalPlanning
from contextpilot.server.pool.engine_pool import EnginePool
from contextpilot.server.pool.waiting import Ageing

FirstToken = Callable[[], None]
SYSTEM_TOKENS = 200
BOUNDED_LOAD = 1.25
SEED = 20


class Request(NamedTuple):
    """One request of a tenant."""

    tenant: str
    head: Head
    blocks: list[Block]

    @property
    def tokens(self) -> int:
        """Of its prompt."""
        return self.head.tokens + sum(block.weight for block in self.blocks)


class SimulatedEngine:
    """A prefix cache that computes one prompt after the other, and generates beside that."""

    def __init__(self, name: str, capacity: int, rate: float, places: int) -> None:
        self.name = name
        self.rate = rate
        self.capacity = capacity
        self.running = 0
        self.requests = self.computed = self.hits = 0
        self.on_evict: Callable[[Hashable, int], None] | None = None
        self.places = asyncio.Semaphore(places)
        self._computing = asyncio.Lock()
        self.restart()

    def restart(self) -> None:
        """Begin with an empty cache."""
        self._cache = PrefixCache(self.capacity, self._evicted)

    async def prefill(self, request: Request, keys: Sequence[BlockKey], name: str) -> None:
        """Compute what the cache does not hold."""
        weights = {block.key: block.weight for block in request.blocks}
        weights[request.head.keys[0]] = request.head.tokens
        async with self._computing:
            hits = self._cache.request([*request.head.keys, *keys], weights, name)
            self.requests += 1
            self.hits += hits
            self.computed += request.tokens - hits
            await asyncio.sleep((request.tokens - hits) / self.rate)

    def _evicted(self, name: Hashable, tokens: int) -> None:
        if self.on_evict is not None:
            self.on_evict(name, tokens)


class Router(Protocol):
    """Serves requests at engines that join, leave and restart."""

    async def serve(self, request: Request, name: str, first_token: FirstToken) -> None:
        """Serve a request; call `first_token` when it is there."""

    async def join(self, engine: SimulatedEngine) -> None: ...

    async def leave(self, engine: SimulatedEngine) -> None: ...

    def restarted(self, engine: SimulatedEngine) -> None: ...


class HashRouter:
    """Round robin, or rendezvous hashing with bounded load."""

    def __init__(self, by_hash: bool, plans: bool, answer_s: float) -> None:
        self._by_hash = by_hash
        self._answer_s = answer_s
        self._engines: list[SimulatedEngine] = []
        self._spaces = Namespaces(2_000_000, 4096, 1000)
        self._planning = LocalPlanning(self._spaces) if plans else None
        self._next = 0

    async def serve(self, request: Request, name: str, first_token: FirstToken) -> None:
        keys = [block.key for block in request.blocks]
        if self._planning is not None:
            job = Job(request.tenant, [request.blocks], Bounds(), request.head, [0])
            (planned,) = self._planning.run(job)
            keys = [request.blocks[rank].key for rank in planned.plan.order]
        engine = self._hashed(request, keys) if self._by_hash else self._turn()
        engine.running += 1
        async with engine.places:
            await engine.prefill(request, keys, name)
            first_token()
            await asyncio.sleep(self._answer_s)
        engine.running -= 1

    def _turn(self) -> SimulatedEngine:
        self._next += 1
        return self._engines[self._next % len(self._engines)]

    def _hashed(self, request: Request, keys: Sequence[BlockKey]) -> SimulatedEngine:
        most = BOUNDED_LOAD * (1 + sum(one.running for one in self._engines)) / len(self._engines)
        mark = repr((request.head.keys, keys[:1]))
        ranked = sorted(self._engines, key=lambda one: content_key(mark + one.name))
        return next((one for one in ranked if one.running < most), ranked[0])

    async def join(self, engine: SimulatedEngine) -> None:
        self._engines.append(engine)

    async def leave(self, engine: SimulatedEngine) -> None:
        self._engines.remove(engine)

    def restarted(self, engine: SimulatedEngine) -> None:
        """Nobody tells a router of that kind."""


class PoolRouter:
    """The server's pool."""

    def __init__(self, places: int, answer_s: float) -> None:
        self._answer_s = answer_s
        spaces = lambda: Namespaces(2_000_000, 4096, 1000)  # noqa: E731
        self.pool = EnginePool([], spaces, max_in_flight=places, ageing=Ageing())
        self._engines: dict[str, SimulatedEngine] = {}

    async def serve(self, request: Request, name: str, first_token: FirstToken) -> None:
        tenant, blocks, head = request.tenant, request.blocks, request.head
        async with self.pool.lease(tenant, blocks, head, bounds=Bounds()) as lease:
            (planned,) = await lease.run(Job(tenant, [blocks], Bounds(), head, [0]))
            assert lease.engine is not None
            engine = self._engines[lease.engine.name]
            keys = [blocks[rank].key for rank in planned.plan.order]
            await engine.prefill(request, keys, planned.request_id or name)
            lease.first_byte()
            lease.confirm()
            first_token()
            await asyncio.sleep(self._answer_s)

    async def join(self, engine: SimulatedEngine) -> None:
        self._engines[engine.name] = engine
        member = await self.pool.add(f"http://{engine.name}:1", engine.name)

        def evicted(name: Hashable, tokens: int) -> None:
            space = member.namespaces.owner(str(name))
            if space is not None:
                space.planner.index.truncate(str(name), tokens)

        engine.on_evict = evicted

    async def leave(self, engine: SimulatedEngine) -> None:
        engine.on_evict = None
        await self.pool.remove(engine.name)

    def restarted(self, engine: SimulatedEngine) -> None:
        member = self.pool.find(engine.name)
        assert member is not None
        member.forget()


class Outcome(NamedTuple):
    """What one router came to; balance is the busiest engine's computed tokens over the mean."""

    hit_ratio: float
    balance: float
    waits: list[float]


class Bench:
    """Requests of several tenants on simulated engines."""

    def __init__(self, requests: Sequence[Request], num_engines: int, args: argparse.Namespace):
        self.requests = requests
        self.num_engines = num_engines
        self.args = args
        self.tokens = sum(request.tokens for request in requests)
        capacity = resolve(args.cache, self.tokens).tokens
        self.capacity = (self.tokens if capacity is None else capacity) // num_engines

    def run(self, make: Callable[[], Router]) -> Outcome:
        """Serve every request, in simulated time."""
        loop = SimulatedClock()
        try:
            return loop.run_until_complete(self._serve_all(make))
        finally:
            loop.close()

    async def _serve_all(self, make: Callable[[], Router]) -> Outcome:
        args, chance, loop = self.args, random.Random(SEED), asyncio.get_running_loop()
        router, engines = make(), [self._engine(number) for number in range(self.num_engines)]
        for engine in engines:
            await router.join(engine)
        mean_s = self.tokens / len(self.requests) / args.rate
        few, count = max(1, self.num_engines // 8), len(self.requests)
        more = [self._engine(self.num_engines + number) for number in range(few)]
        waits: list[float] = []

        def noted(came: float) -> FirstToken:
            return lambda: waits.append(loop.time() - came)

        tasks = []
        for number, request in enumerate(self.requests):
            if not args.steady and number == count // 4:
                for engine in more:
                    await router.join(engine)
            if not args.steady and number == count // 2:
                for engine in engines[:few]:
                    await router.leave(engine)
            if not args.steady and number == count * 3 // 4:
                for engine in engines[few : 2 * few]:
                    engine.restart()
                    router.restarted(engine)
            serving = router.serve(request, str(number), noted(loop.time()))
            tasks.append(asyncio.ensure_future(serving))
            await asyncio.sleep(chance.expovariate(args.load * self.num_engines / mean_s))
        await asyncio.gather(*tasks)
        steady = engines[2 * few :] if not args.steady else engines
        computed = [engine.computed for engine in steady]
        hits = sum(engine.hits for engine in [*engines, *more])
        busiest = max(computed) / (sum(computed) / len(computed))
        return Outcome(hits / self.tokens, busiest, waits)

    def _engine(self, number: int) -> SimulatedEngine:
        return SimulatedEngine(f"e{number}", self.capacity, self.args.rate, self.args.places)


def mixed(paths: Sequence[Path], repeats: int) -> list[Request]:
    """Return the requests of all files in random order, each file's own order kept."""
    chance, tenants = random.Random(SEED), {}
    for path in paths:
        name = path.name.partition(".")[0]
        head = Head((content_key(f"system prompt of {name}"),), SYSTEM_TOKENS)
        contexts = [unique(context) for context in read_workload(str(path)).contexts]
        tenants[name] = [Request(name, head, context) for context in contexts * repeats]
    turns = [name for name, requests in tenants.items() for _ in requests]
    chance.shuffle(turns)
    taken: Counter[str] = Counter()
    found = []
    for name in turns:
        found.append(tenants[name][taken[name]])
        taken[name] += 1
    return found


def main() -> None:
    """Print a table for each number of engines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workloads", type=Path, help="folder of workload files")
    parser.add_argument("--only", nargs="*", default=(), metavar="NAME", help="these workloads")
    parser.add_argument("--engines", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--load", type=float, default=0.7, help="arrivals over what they serve")
    parser.add_argument("--cache", default="60%", help="of all engines together, of the tokens")
    parser.add_argument("--rate", type=float, default=5000.0, help="tokens computed a second")
    parser.add_argument("--places", type=int, default=8, help="requests that an engine takes")
    parser.add_argument("--answer", type=float, default=0.5, help="seconds that an answer takes")
    parser.add_argument("--repeats", type=int, default=1, help="how often all requests come")
    parser.add_argument("--steady", action="store_true", help="no engine joins, leaves, restarts")
    args = parser.parse_args()
    requests = mixed(workload_files(args.workloads, args.only), args.repeats)
    print(machine_line("numpy", "scipy"))
    hashed = [
        ("round robin", False, False),
        ("prefix hash", True, False),
        ("round robin, planned", False, True),
        ("prefix hash, planned", True, True),
    ]
    for number in args.engines:
        bench = Bench(requests, number, args)
        print(
            f"\n{number} engines of {bench.capacity:,} tokens, {len(requests):,} requests of "
            f"{bench.tokens:,} tokens, load {args.load:g}\n\n"
            "| router | hit % | busiest / mean | first token: mean s | p50 | p99 | worst |\n"
            "|---|---|---|---|---|---|---|"
        )
        makers: list[tuple[str, Callable[[], Router]]] = [
            (name, lambda h=by_hash, p=plans: HashRouter(h, p, args.answer))  # type: ignore[misc]
            for name, by_hash, plans in hashed
        ]
        makers.append(("pool", lambda: PoolRouter(args.places, args.answer)))
        for name, make in makers:
            outcome = bench.run(make)
            waits = outcome.waits
            cells = [f"{100 * outcome.hit_ratio:.1f}", f"{outcome.balance:.2f}"]
            cells += [f"{sum(waits) / len(waits):.2f}"]
            cells += [f"{quantile(waits, share):.2f}" for share in (0.5, 0.99)]
            print(f"| {name} | {' | '.join(cells)} | {max(waits):.2f} |", flush=True)


if __name__ == "__main__":
    import plainly

    plainly.run(main)

"""What planning waiting requests together is worth, and what it costs them in waiting.

    python scripts/bench_waiting.py REQUESTS.json.gz ... [--load 1.1] [--places 2] [--cache 1%]

A simulated engine with a small prefix cache serves recorded requests: it takes `--places` at once,
and each takes as long as its tokens that miss the cache, plus a constant for its answer. Requests
come at random (Poisson), at `--load` times what the engine can serve when nothing hits. The line,
the planner and the index are the server's own, on an event loop whose clock is simulated: the
figures are the same on every machine. The engine tells the index of each eviction at once.

Waiting times are in seconds of the simulated engine, which computes `--rate` tokens in each.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import platform
import random
import selectors
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy
import scipy

import contextpilot
from contextpilot.block import Block, unique
from contextpilot.commands.capacity import resolve
from contextpilot.commands.workload import read_workload
from contextpilot.namespace import Namespaces
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import NO_HEAD
from contextpilot.plan.simulate import PrefixCache, simulate
from contextpilot.planning import Job
from contextpilot.server.pool.member import Engine
from contextpilot.server.pool.waiting import Ageing, UnplannedRequest

ARRIVAL_SEED = 20


class SimulatedClock(asyncio.SelectorEventLoop):
    """An event loop that does not sleep: its clock jumps to the next timer."""

    def __init__(self) -> None:
        self._now = 0.0
        selector = selectors.SelectSelector()
        original_select = selector.select

        def select(timeout: float | None = None) -> Any:
            if timeout:
                self._now += timeout
            return original_select(0)

        selector.select = select  # type: ignore[method-assign]
        super().__init__(selector)

    def time(self) -> float:
        return self._now

    def run_in_executor(self, _: Any, func: Any, *args: Any) -> Any:
        """Run at once: beside a thread the clock would jump to whatever timer is next."""
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done


class Case(NamedTuple):
    """How requests are served: plain keeps every order; a window of 1 plans one at a time."""

    name: str
    window: int
    reorders: bool = True


CASES = (
    Case("plain order", 1, reorders=False),
    Case("one at a time", 1),
    Case("window of 4", 4),
    Case("window of 16", 16),
    Case("window of 64", 64),
)


class Outcome(NamedTuple):
    """What one case came to: hit ratio, waiting times and time of work in seconds."""

    hit_ratio: float
    waits: list[float]
    busy_s: float


class Bench:
    """One workload on one simulated engine."""

    def __init__(self, contexts: Sequence[Sequence[Block]], args: argparse.Namespace) -> None:
        self.contexts = [unique(context) for context in contexts]
        self.weights = {b.key: b.weight for context in self.contexts for b in context}
        self.tokens = sum(block.weight for context in self.contexts for block in context)
        self.capacity = resolve(args.cache, self.tokens).tokens
        self.args = args

    def run(self, case: Case) -> Outcome:
        """Serve every request, in simulated time."""
        loop = SimulatedClock()
        try:
            return loop.run_until_complete(self._serve_all(case))
        finally:
            loop.close()

    async def _serve_all(self, case: Case) -> Outcome:
        args = self.args
        ageing = Ageing(case.window, args.max_overtaken, args.max_delay)
        bounds = Bounds(enabled=case.reorders)
        spaces = Namespaces(2_000_000, 4096, 1)
        engine = Engine("simulated", "http://simulated", spaces, args.places, ageing)
        server = SimulatedEngine(engine, self, bounds)
        chance = random.Random(ARRIVAL_SEED)
        mean_s = self.tokens / len(self.contexts) / args.rate + args.answer
        tasks = []
        for context in self.contexts:
            tasks.append(asyncio.ensure_future(server.serve(context)))
            await asyncio.sleep(chance.expovariate(args.load * args.places / mean_s))
        await asyncio.gather(*tasks)
        return Outcome(server.cache.totals.hit_ratio, server.waits, server.busy_s)


class SimulatedEngine:
    """A prefix cache behind the server's own waiting line and planner."""

    def __init__(self, engine: Engine, bench: Bench, bounds: Bounds) -> None:
        self._engine = engine
        self._bench = bench
        self._bounds = bounds
        self._lost: dict[Hashable, int] = {}
        self.cache = PrefixCache(bench.capacity, self._evicted)
        self.waits: list[float] = []
        self.busy_s = 0.0

    async def serve(self, context: Sequence[Block]) -> None:
        """Wait, plan, run."""
        args, loop = self._bench.args, asyncio.get_running_loop()
        came = loop.time()
        ready = await self._engine.line.enter(UnplannedRequest("", context, NO_HEAD, self._bounds))
        self.waits.append(loop.time() - came)
        (planned,) = self._engine.plan(Job("", [context], self._bounds, NO_HEAD, [0]), ready)
        keys = [context[rank].key for rank in planned.plan.order]
        hits = self.cache.request(keys, self._bench.weights, planned.request_id)
        self._tell()
        took = (sum(block.weight for block in context) - hits) / args.rate + args.answer
        self.busy_s += took
        await asyncio.sleep(took)
        self._engine.line.leave()

    def _evicted(self, request: Hashable, tokens: int) -> None:
        self._lost[request] = min(tokens, self._lost.get(request, tokens))

    def _tell(self) -> None:
        index = self._engine.namespaces.get("").planner.index
        for request, tokens in self._lost.items():
            index.truncate(str(request), tokens)
        self._lost.clear()


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share of the values lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def report(path: str, args: argparse.Namespace) -> None:
    """Print the table of one workload."""
    workload = read_workload(path)
    bench = Bench(workload.contexts, args)
    ideal = simulate(
        ([block.key for block in context] for context in bench.contexts), bench.weights
    )
    print(
        f"\n{workload.name}: {len(bench.contexts)} requests, {bench.tokens:,} tokens, cache "
        f"{bench.capacity:,} tokens ({args.cache}); plain order, unlimited: "
        f"{100 * ideal.hit_ratio:.1f} %"
    )
    print(f"{'':15}{'hits %':>8}{'busy s':>10}{'wait mean':>11}{'p99':>9}{'worst':>9}")
    for case in CASES:
        outcome = bench.run(case)
        waits = outcome.waits
        print(
            f"{case.name:15}{100 * outcome.hit_ratio:8.1f}{outcome.busy_s:10.1f}"
            f"{sum(waits) / len(waits):11.2f}{quantile(waits, 0.99):9.2f}{max(waits):9.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="recorded requests")
    parser.add_argument("--load", type=float, default=1.1, help="arrivals over capacity, no hits")
    parser.add_argument("--places", type=int, default=2, help="requests that run at once")
    parser.add_argument("--cache", default="1%", help="cache, in tokens or of the workload")
    parser.add_argument("--rate", type=float, default=5000.0, help="tokens computed a second")
    parser.add_argument("--answer", type=float, default=0.05, help="seconds that an answer takes")
    parser.add_argument("--max-overtaken", type=int, default=64)
    parser.add_argument("--max-delay", type=float, default=10.0, help="seconds to be overtaken")
    args = parser.parse_args()
    print(
        f"contextpilot {contextpilot.__version__}, Python {platform.python_version()}, "
        f"NumPy {numpy.__version__}, SciPy {scipy.__version__}, {platform.machine()}, "
        f"{datetime.date.today()}"
    )
    print(
        f"{args.places} places, {args.rate:g} tokens/s each, answers {args.answer:g} s, load "
        f"{args.load:g}, overtaken at most {args.max_overtaken} times and {args.max_delay:g} s"
    )
    for path in args.files:
        report(path, args)


if __name__ == "__main__":
    import plainly

    plainly.run(main)

"""What it costs to choose among 64 engines, and what the choice leaves behind."""

from __future__ import annotations

import asyncio
import random
import statistics
import time

from contextpilot.block import Block, content_key
from contextpilot.namespace import Namespaces
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import Head
from contextpilot.planning import Job
from contextpilot.server.pool.engine_pool import EnginePool

from .measurement import Measurement

NUM_ENGINES = 64
NUM_BLOCKS = 20
NUM_TOPICS = 200
TOPIC_BLOCKS = 60
MAX_BLOCKS = 100_000
HEAD = Head((content_key("system"),), 200)


class Load:
    """A pool of 64 engines and requests of many topics, each of 20 of some 60 blocks."""

    def __init__(self) -> None:
        self.rng = random.Random(1)
        self.pool = EnginePool(
            [f"http://engine{number}:1" for number in range(NUM_ENGINES)],
            lambda: Namespaces(MAX_BLOCKS // NUM_ENGINES, 4096, 1000),
        )
        self.tokens = self.hits = 0
        self.seconds: list[float] = []

    def context(self) -> list[Block]:
        """Return the blocks of one request."""
        topic = min(int(self.rng.paretovariate(0.8)), NUM_TOPICS)
        found: dict[int, None] = {}
        while len(found) < NUM_BLOCKS:
            step = int(self.rng.expovariate(1 / NUM_BLOCKS)) % TOPIC_BLOCKS
            found.setdefault(topic * TOPIC_BLOCKS // 3 + step)
        return [
            Block(content_key(str(number)), "", 80 + number * 37 % 220, None) for number in found
        ]

    async def serve(self, count: int) -> None:
        """Send requests; as many run at a time as there are engines."""
        running = asyncio.Semaphore(NUM_ENGINES)
        tasks = []
        for _ in range(count):
            await running.acquire()
            tasks.append(asyncio.create_task(self._serve(self.context(), running)))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)

    async def _serve(self, blocks: list[Block], running: asyncio.Semaphore) -> None:
        began = time.perf_counter()
        async with self.pool.lease("n", blocks, HEAD) as lease:
            self.seconds.append(time.perf_counter() - began)
            (planned,) = lease.plan(Job("n", [blocks], Bounds(), HEAD, [20]))
            self.tokens += planned.explanation.total_tokens
            self.hits += planned.explanation.matched_tokens
            for _ in range(NUM_ENGINES):
                await asyncio.sleep(0)
            if hasattr(lease, "confirm"):  # earlier versions believed without
                lease.confirm()
        running.release()


def served(count: int = 6_000) -> Load:
    """Return a load after so many requests."""
    load = Load()
    asyncio.run(load.serve(count))
    return load


def decision_ms() -> float:
    """The median of the last thousand."""
    return 1e3 * statistics.median(served().seconds[-1000:])


def hit_percent() -> float:
    """What was live where the requests went, of all tokens of blocks."""
    load = served()
    return 100 * load.hits / load.tokens


def imbalance() -> float:
    """Requests of the busiest engine over those of the least busy."""
    counts = [engine.traffic.served for engine in served().pool.engines]
    return max(counts) / min(counts)


def indexes_made() -> float:
    """Indexes that there are after a routing decision for a new tenant."""

    async def decide() -> float:
        load = Load()
        async with load.pool.lease("tenant", load.context(), HEAD, wait=False):
            return sum(len(namespaces.items()) for namespaces in load.pool.indexes())

    return asyncio.run(decide())


MEASUREMENTS = [
    Measurement("choosing among 64 engines, median", "ms", "≤ 0.2", decision_ms),
    Measurement("hits where the requests went", "%", "as before", hit_percent),
    Measurement("requests of the busiest engine / the least busy", "×", "as before", imbalance),
    Measurement("indexes made by a decision for a new tenant", "", "0", indexes_made),
]

"""What stays in memory, and whose it is."""

from __future__ import annotations

import gc

from machine import memory_mb

from contextpilot.block import Block, content_key
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import Head
from contextpilot.planning import Job, LocalPlanning
from contextpilot.server.app import make_pool
from contextpilot.server.settings import Settings

from .measurement import Measurement

MAX_BLOCKS = 20_000
HEAD = Head((content_key("system"),), 200)


def blocks(first: int, count: int) -> list[Block]:
    """Return blocks that follow each other in number."""
    numbers = range(first, first + count)
    return [Block(content_key(str(number)), "", 200, None) for number in numbers]


def held_over_bound() -> float:
    """Blocks in all indexes after ten times as many, for 50 tenants at 8 engines."""
    urls = tuple(f"http://engine{number}:1" for number in range(8))
    pool = make_pool(Settings(engine=urls, max_blocks=MAX_BLOCKS))
    plannings = [LocalPlanning(namespaces) for namespaces in pool.indexes()]
    for number in range(MAX_BLOCKS):
        job = Job(f"tenant {number % 50}", [blocks(10 * number, 10)], Bounds(), HEAD, [10])
        list(plannings[number % 8].run(job))
    spaces = [space for namespaces in pool.indexes() for _, space in namespaces.items()]
    return sum(space.planner.index.stats().num_blocks for space in spaces) / MAX_BLOCKS


def bytes_a_block(num_engines: int) -> float:
    """Memory over the bound on blocks, once that is reached: trees, names and windows."""
    urls = tuple(f"http://engine{number}:1" for number in range(num_engines))
    bound = 200_000
    pool = make_pool(Settings(engine=urls, max_blocks=bound))
    plannings = [LocalPlanning(namespaces) for namespaces in pool.indexes()]
    gc.collect()
    before = memory_mb()
    for number in range(bound // 20 + 500):
        job = Job("tenant", [blocks(20 * number, 20)], Bounds(), HEAD, [10])
        list(plannings[number % num_engines].run(job))
    gc.collect()
    return (memory_mb() - before) * (1 << 20) / bound


def left_after_invented_names() -> float:
    """Blocks of a tenant in use that are still believed after 1,001 requests of invented ones."""
    pool = make_pool(Settings(engine=("http://engine:1",)))
    (namespaces,) = pool.indexes()
    planning = LocalPlanning(namespaces)
    for _ in range(2):
        list(planning.run(Job("in use", [blocks(0, 20)], Bounds(), HEAD, [10])))
    for number in range(1_001):
        list(planning.run(Job(f"invented {number}", [blocks(0, 2)], Bounds(), HEAD, [10])))
    space = namespaces.find("in use")
    keys = [*HEAD.keys, *(block.key for block in blocks(0, 20))]
    return float(max(0, space.planner.index.match(keys) - 1)) if space is not None else 0.0


MEASUREMENTS = [
    Measurement(
        f"blocks held of 50 tenants at 8 engines, over `max_blocks` ({MAX_BLOCKS:,})",
        "×",
        "≤ 1",
        held_over_bound,
    ),
    Measurement("memory for a block at one engine", "bytes", "", lambda: bytes_a_block(1)),
    Measurement("memory for a block at 8 engines", "bytes", "", lambda: bytes_a_block(8)),
    Measurement(
        "of 20 blocks, left after 1,001 invented tenants", "", "20", left_after_invented_names
    ),
]

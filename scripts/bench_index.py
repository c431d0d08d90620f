"""Print what one index server holds, and what a request costs it.

    python scripts/bench_index.py [--contexts 1000 10000 100000] [--engines 1 8 64] [--blocks 20]

The server's own pool routes, plans and learns requests of `--blocks` documents each, drawn from
twice as many documents as there are contexts (Zipf, exponent 0.8), behind one system prompt. Costs
are processor time, so other work on the machine does not matter much: choosing the engine, planning
there, learning. Memory is what the process grew by over the contexts; all stay, if
`max_blocks` (printed) allows. A request over HTTP costs more: `scripts/bench_server.py reorder`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from machine import machine_line, memory_mb

from contextpilot.block import Block, content_key
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import Head
from contextpilot.planning import Job
from contextpilot.server.app import make_pool
from contextpilot.server.settings import Settings

HEAD = Head((content_key("system"),), 200)
EXPONENT = 0.8
LAST = 1000
"""Requests that the cost is the median of."""


@dataclass
class Held:
    """One row.

    Attributes:
        milliseconds: of processor time, median and 99th percentile of the last requests.
        num_blocks: in the index in the end.
    """

    milliseconds: tuple[float, float]
    bytes_per_context: float
    num_blocks: int


def contexts(count: int, size: int, seed: int = 1) -> Iterator[list[Block]]:
    """Yield contexts of distinct documents."""
    chance = np.random.default_rng(seed)
    number = 2 * count
    cumulated = np.cumsum(1.0 / np.arange(1, number + 1) ** EXPONENT)
    for _ in range(count):
        drawn: dict[int, None] = {}
        while len(drawn) < size:
            at = np.searchsorted(cumulated, chance.random(size) * cumulated[-1])
            drawn.update(dict.fromkeys(at.tolist()))
        found = list(drawn)[:size]
        yield [Block(content_key(str(n)), "", 80 + n * 37 % 220, None) for n in found]


def alone(count: int, engines: int, size: int, max_blocks: int) -> Held:
    """Measure in a process of its own, whose memory nothing was freed in."""
    with multiprocessing.get_context("spawn").Pool(1) as one:
        return one.apply(measured, (count, engines, size, max_blocks))


def measured(count: int, engines: int, size: int, max_blocks: int) -> Held:
    """Serve so many requests; return what they cost and take."""
    return asyncio.run(held(count, engines, size, max_blocks))


async def held(count: int, engines: int, size: int, max_blocks: int) -> Held:
    """Serve so many requests; return what they cost and take."""
    urls = tuple(f"http://engine{number}:1" for number in range(engines))
    pool = make_pool(Settings(engine=urls, max_blocks=max_blocks))
    gc.collect()
    before, seconds = memory_mb(), []
    for number, blocks in enumerate(contexts(count, size)):
        began = time.process_time()
        async with pool.lease("n", blocks, HEAD) as lease:
            lease.plan(Job("n", [blocks], Bounds(), HEAD, [20]))
            lease.confirm()
        seconds.append(1000 * (time.process_time() - began))
        if number % 256 == 0:
            await asyncio.sleep(0)
    gc.collect()
    grown = (memory_mb() - before) * (1 << 20) / count
    spaces = [space for namespaces in pool.indexes() for _, space in namespaces.items()]
    blocks_held = sum(space.index.num_blocks for space in spaces)
    last = sorted(seconds[-LAST:])
    cost = statistics.median(last), last[int(len(last) * 0.99)]
    return Held(cost, grown, blocks_held)


def main() -> None:
    """Print a row for each number of contexts and engines."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--contexts", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--engines", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--max-blocks", type=int, default=Settings.max_blocks)
    args = parser.parse_args()
    print(machine_line("numpy"))
    print(f"contexts of {args.blocks} blocks, max_blocks {args.max_blocks:,}\n")
    print(
        "| contexts | engines | blocks in the index | bytes per context | ms median | p99 "
        "| requests/s of one core |\n|---|---|---|---|---|---|---|"
    )
    for count in args.contexts:
        for engines in args.engines:
            row = alone(count, engines, args.blocks, args.max_blocks)
            median, p99 = row.milliseconds
            cells = [
                f"{count:,}",
                str(engines),
                f"{row.num_blocks:,}",
                f"{row.bytes_per_context:,.0f}",
            ]
            cells += [f"{median:.2f}", f"{p99:.2f}", f"{1000 / median:,.0f}"]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    import plainly

    plainly.run(main)

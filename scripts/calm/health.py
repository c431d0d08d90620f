"""What of an engine's index one bad moment costs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from contextpilot.namespace import Namespaces
from contextpilot.server.pool.concurrency_limit import ConcurrencyLimit
from contextpilot.server.pool.engine_pool import EnginePool
from contextpilot.server.pool.health import Rhythm

from .measurement import Measurement
from .served import serving

_PATHS = 1000
_SCRAPE = "vllm:num_requests_running {}.0\nvllm:num_requests_waiting {}.0\n"
_SCRAPE_EVERY_S = 2.0


def after_one_503() -> float:
    """Answer one health check with 503."""

    async def fault(fail_once: Callable[[], None], pool: EnginePool) -> None:
        fail_once()
        pool.hurry(pool.engines[0].name)
        await asyncio.sleep(0.5)

    return _forgotten_after(fault)


def after_own_shortage() -> float:
    """Take every descriptor of this process for half a second."""

    async def fault(_: Callable[[], None], pool: EnginePool) -> None:
        assert pool._upstream is not None
        pool._upstream.close()  # a kept connection would need none
        await asyncio.sleep(0.1)
        with _no_descriptors():
            for _ in range(10):
                pool.hurry(pool.engines[0].name)
                await asyncio.sleep(0.05)

    return _forgotten_after(fault)


def _forgotten_after(fault: Callable[[Callable[[], None], EnginePool], Awaitable[None]]) -> float:
    statuses: list[int] = []

    async def health(_: Any, __: Any, send: Any) -> None:
        status = statuses.pop() if statuses else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def main(url: str) -> float:
        pool = EnginePool([url], lambda: Namespaces(100_000, 100, 10), rhythm=Rhythm())
        await pool.start()
        engine = pool.engines[0]
        while not engine.up:
            await asyncio.sleep(0.01)
        index = engine.namespaces.get("n").planner.index
        for number in range(_PATHS):
            index.insert(["system", number], f"cp-{number}")
        await fault(lambda: statuses.append(503), pool)
        held = index.stats().num_blocks
        await pool.close()
        return 100 * (1 - held / (_PATHS + 1))

    with serving(health) as url:
        return asyncio.run(main(url))


@contextlib.contextmanager
def _no_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        time.sleep(0.1)


def limit_after_a_scrape() -> float:
    """Show a full engine, then one scrape in which it admits a batch."""
    limit = ConcurrencyLimit()
    for _ in range(6):
        limit.observe(_SCRAPE.format(200, 30), 230)
    limit.observe(_SCRAPE.format(2, 198), 200)
    return limit.value


def limit_recovers() -> float:
    """Show a queue behind two requests for long, and then an engine that takes all."""
    limit = ConcurrencyLimit()
    for _ in range(6):
        limit.observe(_SCRAPE.format(2, 30), 32)
    scrapes = 0
    while limit.value < 200:
        limit.observe(_SCRAPE.format(int(limit.value), 0), int(limit.value))
        scrapes += 1
    return scrapes * _SCRAPE_EVERY_S


MEASUREMENTS = [
    Measurement("index forgotten after one health answer of 503", "%", "0", after_one_503),
    Measurement("index forgotten while we have no descriptors", "%", "0", after_own_shortage),
    Measurement("limit of 200 after one scrape with a queue", "", "200", limit_after_a_scrape),
    Measurement("a limit of 2 that is too low reaches 200", "s", "below 20", limit_recovers),
]

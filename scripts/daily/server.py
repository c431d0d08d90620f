"""Our server as the command runs it, with two routes more: how it fares, and what it believes."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from contextpilot.server.garbage import collect_seldom
from contextpilot.server.run import configure_logging, make_server
from contextpilot.server.settings import Settings

TICK_S = 0.001
MAX_BLOCKS = 40_000
"""Bound on the index: it is reached within the warm-up."""


class Probe:
    """Wakes every millisecond, and knows for how long it could not.

    Attributes:
        stall_s: processor time that the process used meanwhile, on the loop or without giving way.
        clock_s: the same by the clock, in which others may have had the processor.
    """

    def __init__(self) -> None:
        self.stall_s = self.clock_s = 0.0
        self.task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Watch, for ever."""
        while True:
            used, began = time.process_time(), time.perf_counter()
            await asyncio.sleep(TICK_S)
            self.stall_s = max(self.stall_s, time.process_time() - used)
            self.clock_s = max(self.clock_s, time.perf_counter() - began - TICK_S)

    def read(self) -> dict[str, float]:
        """Return the longest stalls since the last look, in milliseconds."""
        told = {"stall_ms": 1e3 * self.stall_s, "clock_ms": 1e3 * self.clock_s}
        self.stall_s = self.clock_s = 0.0
        return told


def memory_mb() -> float:
    """Return the memory of this process; Linux only."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS")


def routes(app: Any, probe: Probe) -> list[Route]:
    """Return the two routes."""

    async def state(_: Request) -> JSONResponse:
        if probe.task is None:
            probe.task = asyncio.create_task(probe.run())
        return JSONResponse({**probe.read(), "memory_mb": memory_mb()})

    async def belief(_: Request) -> JSONResponse:
        believed = {}
        for namespaces in app.state.service.pool.indexes():
            for _name, space in namespaces.items():  # noqa: PERF102 - it is no dictionary
                with space.lock:
                    index = space.planner.index
                    believed.update({name: index.live_tokens(name) for name in index.requests()})
        return JSONResponse(believed)

    return [Route("/soak/state", state), Route("/soak/belief", belief)]


def run_server(port: int, engine_port: int) -> None:
    """Serve ours."""
    settings = Settings(
        engine=(f"http://127.0.0.1:{engine_port}",),
        port=port,
        kind="vllm",
        log_level="error",
        max_blocks=MAX_BLOCKS,
        window_size=512,
    )
    configure_logging(settings)
    server = make_server(settings)
    app: Any = server.config.app
    app.router.routes[:0] = routes(app, Probe())
    sys.setswitchinterval(0.001)
    collect_seldom(app.state.activity)
    server.run()

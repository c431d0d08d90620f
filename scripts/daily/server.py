"""Our server as the command runs it, with two routes more: how it fares, and what it believes."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from loop_probe import Probe
from machine import memory_mb
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from contextpilot.server.garbage import collect_seldom
from contextpilot.server.run import configure_logging, make_server
from contextpilot.server.settings import Settings

MAX_BLOCKS = 40_000
"""Bound on the index: it is reached within the warm-up."""


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

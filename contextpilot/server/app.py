"""Makes the ASGI application: index API, proxy, and what they share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from contextpilot import __version__
from contextpilot.budget import Budget
from contextpilot.http.callers import AllowedCallers
from contextpilot.http.pooled import Upstream
from contextpilot.namespace import Namespaces
from contextpilot.server import schema_page
from contextpilot.server.dashboard import ASSET_PATHS, make_router
from contextpilot.server.entry import Activity, Entry
from contextpilot.server.errors import install_handlers
from contextpilot.server.index_api import router as api
from contextpilot.server.index_api.body_routes import shortcuts
from contextpilot.server.index_api.rewriting import Rewriting
from contextpilot.server.observe.metrics import Metrics
from contextpilot.server.pool.engine_pool import EnginePool
from contextpilot.server.pool.waiting import Ageing
from contextpilot.server.proxy.handler import Proxy
from contextpilot.server.proxy.outcome import Observer
from contextpilot.server.proxy.recent_prompts import RecentPrompts
from contextpilot.server.proxy.state_file import StateFile
from contextpilot.server.proxy.warming import Warming
from contextpilot.server.request_body import Bodies
from contextpilot.server.schema_page import SCHEMA_PATHS
from contextpilot.server.service import Service
from contextpilot.server.settings import Settings
from contextpilot.sync.sources.kv_events.address import parse_addresses

OPEN_PATHS = ASSET_PATHS | SCHEMA_PATHS | {"/health", "/metrics"}
"""Served without the index token: they tell nothing of any prompt or tenant."""


def create_app(
    settings: Settings, pool: EnginePool | None = None, observer: Observer | None = None
) -> FastAPI:
    """Return the server as an ASGI application; its lifespan opens and closes the connections.

    Args:
        pool: the engines; by default those of the settings.
        observer: told of each request of the proxy that was answered.
    """
    service = Service(settings, pool or make_pool(settings))
    app = FastAPI(
        title="ContextPilot",
        version=__version__,
        description=(__doc__ or "").split("\n")[0],
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.service = service
    app.state.observer = observer
    app.state.metrics = Metrics()
    app.state.bodies = Bodies(settings.max_body_bytes, settings.max_bodies_bytes)
    install_handlers(app)
    app.include_router(api.router)
    app.include_router(
        make_router(service.pool, service.records, app.state.metrics), responses=api.ERRORS
    )
    app.include_router(schema_page.make_router())
    proxy = _ProxyEntry(app)  # with a route, too: a mounted application has longer paths
    app.router.routes.append(Route("/v1/{path:path}", proxy, include_in_schema=False))
    app.state.activity = Activity()
    app.add_middleware(
        Entry,
        proxy=proxy,
        posts=shortcuts(api.router, app),
        token=settings.index_token,
        unguarded=OPEN_PATHS,
        activity=app.state.activity,
        callers=AllowedCallers(settings.allowed_host, "start it with --allowed-host NAME"),
    )
    return app


def make_pool(settings: Settings) -> EnginePool:
    """Return the engines of the settings."""
    budget = Budget(settings.max_blocks)
    sizes = (settings.max_blocks, settings.window_size, settings.max_namespaces)
    return EnginePool(
        settings.engine,
        lambda: Namespaces(*sizes, budget),
        kind=settings.kind,
        max_in_flight=settings.max_in_flight or None,
        ageing=Ageing(settings.window, settings.max_overtaken, settings.max_wait_s),
        kv_events=dict(zip(settings.engine, parse_addresses(settings.kv_events), strict=False)),
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    upstream = Upstream(settings.connect_timeout_s, settings.read_timeout_s)
    state = StateFile(settings.state)
    await asyncio.to_thread(state.open)
    shared = app.state
    recent = RecentPrompts(settings.warm_keep_s)
    observers = [each for each in (recent.note, shared.observer) if each is not None]
    shared.proxy = Proxy(
        shared.service, upstream, shared.metrics, state.orders, shared.bodies, observers
    )
    shared.rewriting = Rewriting(shared.service, state.orders)
    shared.warming = Warming(shared.service, upstream, recent)
    watch = asyncio.create_task(shared.warming.run())
    pool: EnginePool = app.state.service.pool
    await pool.start()
    try:
        yield
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        await pool.close()
        app.state.service.lane.close()
        upstream.close()
        await asyncio.to_thread(state.close)


class _ProxyEntry:
    """The proxy's place in the application, which exists before the proxy's connections do."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app.state.proxy(scope, receive, send)

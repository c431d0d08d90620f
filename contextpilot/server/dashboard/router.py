"""The routes of the dashboard, for any application to include."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import JSONResponse, Response

from contextpilot.server.dashboard.feed import Feed
from contextpilot.server.dashboard.tree import MAX_DEPTH
from contextpilot.server.index_api.schemas import ErrorReply
from contextpilot.server.observe.metrics import Metrics
from contextpilot.server.observe.records import Records
from contextpilot.server.offload import offload
from contextpilot.server.pool.engine_pool import EnginePool
from contextpilot.server.static import add_assets

_ASSETS = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/dashboard/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/dashboard/traffic.js": ("traffic.js", "text/javascript; charset=utf-8"),
    "/dashboard/chart.js": ("chart.js", "text/javascript; charset=utf-8"),
    "/dashboard/style.css": ("style.css", "text/css; charset=utf-8"),
}
ASSET_PATHS = frozenset(_ASSETS)
"""Paths that tell nothing, and must be served without a token for the page to ask for it."""

_NO_STORE = {"Cache-Control": "no-store"}


def make_router(pool: EnginePool, records: Records, metrics: Metrics) -> APIRouter:
    """Return the routes: the page, its parts, and its feed. No prompt text is shown."""
    router = APIRouter(tags=["dashboard"], responses={401: {"model": ErrorReply}})
    feed = Feed(pool, records, metrics)

    add_assets(router, __package__, _ASSETS)

    @router.get("/dashboard/feed")
    async def read_feed() -> Response:
        """Return all that the page shows: sums, history, engines, requests."""
        return JSONResponse(await offload(True, feed.read), headers=_NO_STORE)

    @router.get("/dashboard/tree", responses={404: {"model": ErrorReply}})
    async def read_tree(
        engine: str = Query("", max_length=256),
        namespace: str = Query("", max_length=64),
        path: str = Query("", max_length=MAX_DEPTH * 20),
    ) -> Response:
        """Return what follows a path in the index of an engine: runs of blocks, and their sizes."""
        found = await offload(True, feed.tree, engine, namespace, path)
        if found is None:
            raise HTTPException(404, "namespace or path is unknown, or no longer known")
        return JSONResponse(found, headers=_NO_STORE)

    return router

"""`/docs`: every endpoint, written out from `/openapi.json` by a page that needs no internet.

FastAPI's own page loads its script from a public network of copies.
"""

from __future__ import annotations

from fastapi import APIRouter

from contextpilot.server.static import add_assets

_ASSETS = {
    "/docs": ("index.html", "text/html; charset=utf-8"),
    "/docs/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/docs/page.css": ("page.css", "text/css; charset=utf-8"),
}
SCHEMA_PATHS = frozenset({*_ASSETS, "/openapi.json"})
"""Paths that tell what there is, and nothing of any request."""


def make_router() -> APIRouter:
    """Return the routes of the page."""
    router = APIRouter()
    add_assets(router, __name__, _ASSETS)
    return router

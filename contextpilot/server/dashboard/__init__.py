"""The dashboard: one static page at `/`, and the JSON that it shows."""

from contextpilot.server.dashboard.router import ASSET_PATHS, make_router

__all__ = ["ASSET_PATHS", "make_router"]

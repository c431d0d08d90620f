"""Pages of the server itself: their files, and headers that let nothing in from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def add_assets(router: APIRouter, package: str, assets: Mapping[str, tuple[str, str]]) -> None:
    """Serve files of a package: by path, each one's name and media type."""
    for path, (name, kind) in assets.items():
        content = files(package).joinpath(name).read_bytes()
        router.add_api_route(path, _asset(content, kind), methods=["GET"], include_in_schema=False)


def _asset(content: bytes, kind: str) -> Any:
    async def asset() -> Response:
        return Response(content, media_type=kind, headers=_HEADERS)

    return asset

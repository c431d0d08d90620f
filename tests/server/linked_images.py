"""Image parts with an address, in the form of each API."""

from __future__ import annotations

from typing import Any

SITE = "https://example.org/"


def linked(name: str, api: str, detail: str = "low") -> dict[str, Any]:
    """Return an image as a part; `detail` where Chat Completions has a place for it."""
    url = SITE + name
    if api == "chat":
        return {"type": "image_url", "image_url": {"url": url, "detail": detail}}
    if api == "responses":
        return {"type": "input_image", "image_url": url}
    return {"type": "image", "source": {"type": "url", "url": url}}

"""Checks a built site: links lead to a page and an anchor, nothing comes from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src")}


class Page(HTMLParser):
    """What a page links to, loads, and can be led to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what an element says."""
        for name, value in attrs:
            if name == "id" or (name == "name" and tag == "a"):
                self.anchors.add(value or "")
            elif tag == "a" and name == "href":
                self.links.append(value or "")
            elif (tag, name) in LOADED and ("rel", "canonical") not in attrs:
                self.loaded.append(value or "")


@cache
def page_of(path: Path) -> Page:
    """Return a page, read once."""
    return Page(path.read_text(encoding="utf-8"))


def faults(site: Path) -> Iterator[str]:
    """Yield what is wrong with a built site, a line for each."""
    for path in sorted(site.rglob("*.html")):
        page, here = page_of(path), path.relative_to(site)
        for url in page.loaded:
            if urlsplit(url).scheme not in ("", "data") or url.startswith("//"):
                yield f"{here}: is loaded from elsewhere: {url}"
            elif not urlsplit(url).scheme and not _file(site, path, url).is_file():
                yield f"{here}: is not there: {url}"
        if path.name == "404.html":
            continue  # it may be shown at any address
        for url in page.links:
            yield from (f"{here}: {fault}" for fault in _link_faults(site, path, url))


def _link_faults(site: Path, path: Path, url: str) -> Iterator[str]:
    parts = urlsplit(url)
    if parts.scheme or parts.netloc:
        return
    target = _file(site, path, url)
    if not target.is_file():
        yield f"leads nowhere: {url}"
    elif target.suffix == ".html" and unquote(parts.fragment) not in page_of(target).anchors:
        yield f"no such anchor: {url}"


def _file(site: Path, path: Path, url: str) -> Path:
    place = unquote(urlsplit(url).path)
    if not place:
        return path
    return ((site / place[1:]) if place.startswith("/") else (path.parent / place)).resolve()

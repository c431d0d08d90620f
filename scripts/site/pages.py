"""Gathers the pages of the site: README.md, docs/, and the files of the checkout they link to.

Pages link to files of the checkout as readers of the checkout need it. On the site these files are
pages, too, and links lead there. What stands as `<!-- made: NAME -->` is written by `tables.py`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import tables

ROOT = Path(__file__).resolve().parents[2]
HOME = "README.md"
ALWAYS = [HOME, "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "examples/README.md"]
LINK = re.compile(r"(?<=\]\()([^)#:\s]+)(?=[)#])")
MADE = re.compile(r"<!-- made: (\w+) -->")
LANGUAGES = {".py": "python", ".sh": "bash", ".json": "json", ".toml": "toml", ".yaml": "yaml"}


def gather(folder: Path) -> list[str]:
    """Write all pages and pictures into a folder; return the places of the pages."""
    pages = [f"docs/{page.relative_to(ROOT / 'docs')}" for page in (ROOT / "docs").rglob("*.md")]
    waiting = [*ALWAYS, *sorted(pages)]
    for path in waiting:  # grows
        if path.endswith((".png", ".svg")):
            _copy(path, folder)
            continue
        _write(path, folder)
        found = linked(path) if path.endswith(".md") else ()
        waiting += dict.fromkeys(target for target in found if target not in waiting)
    return [place_of(path) for path in waiting if place_of(path).endswith(".md")]


def place_of(path: str) -> str:
    """Return where in the site a file of the checkout stands."""
    if path == HOME:
        return "index.md"
    if path.startswith("docs/") and path.endswith((".md", ".png", ".svg")):
        return path.removeprefix("docs/")
    return f"files/{path}" if path.endswith(".md") else f"files/{path}.md"


def linked(path: str) -> Iterator[str]:
    """Yield the files of the checkout that a page links to."""
    for link in LINK.findall((ROOT / path).read_text(encoding="utf-8")):
        target = target_of(path, link)
        if target is not None:
            yield target


def target_of(path: str, link: str) -> str | None:
    """Return the file that a link on a page leads to; a folder leads to its README."""
    target = os.path.normpath(os.path.join(os.path.dirname(path), link))
    if (ROOT / target).is_dir():
        target += "/README.md"
    return target if (ROOT / target).is_file() else None


def content_of(path: str) -> str:
    """Return a file as a page of the site: Markdown, or a block of code."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if not path.endswith(".md"):
        language = LANGUAGES.get(Path(path).suffix, "text")
        return f"# {path}\n\n`````{language}\n{text}\n`````\n"
    here = os.path.dirname(place_of(path)) or "."

    def lead(link: re.Match[str]) -> str:
        target = target_of(path, link[1])
        return os.path.relpath(place_of(target), here) if target else link[1]

    text = LINK.sub(lead, text)
    return MADE.sub(lambda made: getattr(tables, made[1])(), text)


def _write(path: str, folder: Path) -> None:
    place = folder / place_of(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(content_of(path), encoding="utf-8")


def _copy(path: str, folder: Path) -> None:
    place = folder / place_of(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / path, place)

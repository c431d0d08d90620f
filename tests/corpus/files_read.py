"""Ordinary files that an agent reads once, after another session has read a part of each."""

from __future__ import annotations

import random
import sysconfig
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from corpus_run import Proxy
from corpus_shapes import called

MIN_CHARS, MAX_CHARS = 200, 40_000
APIS = ("chat", "messages", "responses")


def folders() -> list[Path]:
    """Return the standard library, site-packages, and the documentation of the system."""
    paths = sysconfig.get_paths()
    return [Path(paths["stdlib"]), Path(paths["purelib"]), Path("/usr/share/doc")]


def files(count: int, seed: int = 1) -> list[Path]:
    """Return files of as many types as there are, equally many of each while they last."""
    by_type: dict[str, list[Path]] = defaultdict(list)
    for folder in folders():
        for path in sorted(folder.rglob("*")):
            if path.is_file() and MIN_CHARS <= path.stat().st_size <= MAX_CHARS:
                by_type[path.suffix or path.name].append(path)
    draw = random.Random(seed)
    common = [paths for paths in by_type.values() if len(paths) >= 3]
    for paths in common:
        draw.shuffle(paths)
    chosen: list[Path] = []
    while len(chosen) < count and any(common):
        for paths in common:
            chosen += [paths.pop()] if paths else []
    return chosen[:count]


def readable(path: Path) -> str | None:
    """Return the text of a file; None where it holds none."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def arrives_changed(path: Path, text: str, client: Proxy) -> bool:
    """Read a part of a file in one session, then all of it in another one."""
    api = APIS[len(text) % len(APIS)]
    key = f"file {path}"
    for part in _parts(text):
        client.send(api, _body(api, part), key)
    body = _body(api, text)
    got, _ = client.send(api, body, key)
    return bool(got != body)


def _parts(text: str) -> Iterator[str]:
    """Yield the second half, and the paragraphs in another order."""
    yield text[len(text) // 2 :]
    paragraphs = text.split("\n\n")
    yield "\n\n".join([*paragraphs[1::2], *paragraphs[::2]])


def _body(api: str, text: str) -> dict[str, Any]:
    tool = ("read_file", "bash", "view", "fetch")[len(text) % 4]
    turns = [{"role": "user", "content": "Have a look at it."}, *called(api, tool, text)]
    if api == "messages":
        return {"model": "m", "max_tokens": 9, "messages": turns}
    return {"model": "m", "input" if api == "responses" else "messages": turns}

"""What stands in README and docs: pages, blocks of code, commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PATHS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
PAGES = {path: path.read_text(encoding="utf-8") for path in PATHS}
README = PAGES[ROOT / "README.md"]

_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


class Block(NamedTuple):
    """A block of code, and its name: the page and its number there."""

    name: str
    language: str
    code: str


def blocks(*languages: str) -> list[Block]:
    """Return the blocks of some languages, in all pages."""
    found = []
    for path, text in PAGES.items():
        numbers = dict.fromkeys(languages, 0)
        for indent, language, code in _BLOCK.findall(text):
            if language in languages:
                numbers[language] += 1
                flush = re.sub(f"^{indent}", "", code, flags=re.MULTILINE)
                found.append(Block(f"{path.stem}-{numbers[language]}", language, flush))
    return found


def lines_of_code() -> list[str]:
    """Return the lines of all blocks but Python, fenced or indented; continued ones are joined."""
    found = []
    for text in PAGES.values():
        fenced = "".join(code for _, language, code in _BLOCK.findall(text) if language != "python")
        rest = _BLOCK.sub("", text)
        indented = "\n".join(re.findall(r"^    (.*)$", rest, re.MULTILINE))
        joined = re.sub(r"\\\n\s*", " ", f"{fenced}\n{indented}")
        found += [line.strip() for line in joined.splitlines()]
    return found


def spans(*names: str) -> list[str]:
    """Return what stands between backticks in the text of all pages, or of some."""
    texts = [text for path, text in PAGES.items() if not names or path.stem in names]
    return [span for text in texts for span in _SPAN.findall(_BLOCK.sub("", text))]

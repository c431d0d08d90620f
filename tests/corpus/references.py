"""Checks every reference of a rewritten prompt against the prompt that was sent.

It knows nothing of how references are made, only how they read:

    [7 lines omitted, same as tool result #1: "The Supplier shall deliver the"]
    [4 lines #1 "12.3 Payment is d"]
    [1 line above "total 0 errors in mo"]
    Given earlier in this conversation, beginning "The Supplier shall ...".

What was taken out must stand, word for word and in full view, at the one place before it that the
reference names.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

_LINES = re.compile(
    r'\s*\[(\d+) lines? (?:x(\d+) )?(?:above|#\d+|omitted, same as [^"]*?:) "(?P<quote>.*)"\]\s*'
)
_HINT = re.compile(r'\s*Given earlier in this conversation, beginning "(?P<quote>.*)"\.\s*')
_LISTED = re.compile(r"\s*\d+(?:[:|\t→-]|\s{2})\s?")


class Text(NamedTuple):
    """A text of a request: where it stands, and what it says."""

    path: str
    text: str


def reference_problem(sent: Any, got: Any) -> str:
    """Return why a reference of a rewritten request cannot be followed; "" if all can.

    Texts that were only reordered are no concern of this check.
    """
    originals = list(texts_of(sent))
    written = list(texts_of(got))
    if len(originals) != len(written):
        return ""
    before: list[str] = []
    for original, text in zip(originals, written, strict=True):
        lines = text.text.split("\n")
        if original.text != text.text and sorted(original.text) != sorted(text.text):
            problem = _text_problem(original.text.split("\n"), lines, before)
            if problem:
                return f"{text.path}: {problem}"
        before += lines
    return ""


def texts_of(node: Any, path: str = "") -> Iterator[Text]:
    """Yield the texts of a body in the order in which a reader meets them."""
    if isinstance(node, str):
        inner = _parsed(node)
        if inner is None:
            yield Text(path, node)
        else:
            yield from texts_of(inner, path + "!")
    elif isinstance(node, dict):
        for name, value in node.items():
            yield from texts_of(value, f"{path}.{name}")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from texts_of(value, f"{path}[{number}]")


def _parsed(text: str) -> Any:
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        inner = json.loads(text)
    except ValueError:
        return None
    return inner if isinstance(inner, dict | list) else None


def _text_problem(original: list[str], lines: list[str], before: list[str]) -> str:
    matcher = difflib.SequenceMatcher(None, original, lines, autojunk=False)
    for kind, low, high, start, end in matcher.get_opcodes():
        if kind == "equal":
            continue
        gone, new = original[low:high], lines[start:end]
        if kind == "delete":
            return f"{len(gone)} lines are gone without a word: {gone[0][:60]!r}"
        problem = _change_problem(gone, new, [*before, *lines[:start]])
        if problem:
            return problem
    return ""


def _change_problem(gone: list[str], new: list[str], before: list[str]) -> str:
    """The new lines must be references to what is gone, and in its order."""
    left = list(gone)
    for line in new:
        match = _LINES.fullmatch(line) or _HINT.fullmatch(line)
        if match is None:
            return f"a line is new, and no reference: {line[:90]!r}"
        places = _places(match["quote"], before)
        if len(places) != 1:
            return f"{len(places)} lines before it begin as it says: {line.strip()[:110]!r}"
        there = before[places[0] :]
        count = int(match[1]) if match.re is _LINES else len(left)
        times = int(match[2] or 1) if match.re is _LINES else 1
        named, left = left[: count * times], left[count * times :]
        if not _same(named, there[:count] * times):
            return f"what it names is not what was there: {line.strip()[:110]!r}"
    return f"{len(left)} lines are gone, and no reference names them" if left else ""


def _places(quote: str, before: list[str]) -> list[int]:
    quote = quote.removesuffix("…")
    return [at for at, line in enumerate(before) if line.lstrip().startswith(quote)]


def _same(named: list[str], there: list[str]) -> bool:
    """Equal lines; numbers of a listing and what stands around a block aside."""
    if len(named) != len(there):
        return False
    for one, two in zip(named, there, strict=True):
        if one.strip() != two.strip() and _unlisted(one) != _unlisted(two):
            return False
    return True


def _unlisted(line: str) -> str:
    return _LISTED.sub("", line, count=1).strip()

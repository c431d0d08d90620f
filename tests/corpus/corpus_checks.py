"""What must hold of a prompt whose documents were reordered: each as it was, with its own labels.

Numbers that count the places of a prompt may stay in place, if a note tells the original ones.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from corpus_cases import Case, Item, fill

_PLACE, _PLACE0 = "\ue000", "\ue001"
_MARK = "\ue002"
_ENTRY = re.compile(r"\b(\d+)(?:-(\d+))? (?:is|are) (\d+)(?:-(\d+))?")


def label_problem(case: Case, sent: Any, got: Any) -> str:
    """Return why a rewritten request is not the one that was sent, in another order; or ""."""
    if case.spec.get("as") in ("parts", "tool_parts"):
        return _parts_problem(sent, got)
    holder = _holder(case, got)
    if holder is None:
        return "the text with the documents is gone"
    original = _holder(case, sent)
    assert original is not None
    if _others(case, got) != _others(case, sent):
        return "a text without documents is changed"
    patterns = [_pattern(case, item) for item in case.given]
    shown: list[tuple[int, int]] = []
    skeleton, before = holder, original
    for place, pattern in enumerate(patterns):
        matches = list(pattern.finditer(holder))
        if len(matches) != 1:
            return f"document {place + 1} stands {len(matches)} times with its labels"
        shown += [(place + 1 - low, int(number)) for low, number in _numbers(matches[0])]
        skeleton = pattern.sub(_MARK, skeleton)
        before = pattern.sub(_MARK, before)
    if note := _inserted(before, skeleton):
        if note == "\0" or _MARK in note:
            return "text around the documents is changed"
    elif skeleton != before:
        return "text around the documents is changed"
    return _renumbered_problem(shown, note)


def _holder(case: Case, body: Any) -> str | None:
    """Return the text that holds the documents, decoded as far as the case encodes it."""
    first = case.given[0].text
    for text in _texts(body):
        if first in text or json.dumps(first)[1:-1] in text:
            return text
    return None


def _others(case: Case, body: Any) -> list[str]:
    """Return the texts that hold none of the documents."""
    marks = [mark for item in case.given for mark in _encodings(item.text)]
    return [text for text in _texts(body) if not any(mark in text for mark in marks)]


def _encodings(text: str) -> Iterator[str]:
    """Yield the beginning of a text as it stands plain, in JSON, and in JSON within JSON."""
    yield text[:16]
    once = json.dumps(text)[1:50]
    yield once
    yield json.dumps(once)[1:-1]


def _texts(node: Any) -> Iterator[str]:
    """Yield the texts of a body; of a JSON text within it, those within before itself."""
    if isinstance(node, str):
        if node[:1] in ("{", "["):
            try:
                inner = json.loads(node)
            except ValueError:
                inner = None
            if isinstance(inner, dict) and len(inner) < 4:
                nested = [text for text in inner.values() if isinstance(text, str)]
                yield from (text for text in nested if text[:1] in ("[", "{") or "\n" in text)
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from _texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value)


def _pattern(case: Case, item: Item) -> re.Pattern[str]:
    """Return what an item looks like at any place: only numbers that count places may differ."""
    known = {**item.fields(0), "n": _PLACE, "n0": _PLACE0}
    written = re.escape(fill(str(case.spec["each"]), known).strip())
    return re.compile(
        written.replace(re.escape(_PLACE), r"(\d+)").replace(re.escape(_PLACE0), r"(\d+)")
    )


def _numbers(match: re.Match[str]) -> Iterator[tuple[int, str]]:
    for number in match.groups():
        yield 0, number


def _inserted(before: str, after: str) -> str:
    """Return the one stretch that `after` has more than `before`; "\\0" if that is not all."""
    if before == after:
        return ""
    more = len(after) - len(before)
    at = next(
        (i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), len(before)
    )
    for start in range(at, max(-1, at - max(more, 0) - 1), -1):
        if more > 0 and before == after[:start] + after[start + more :]:
            return after[start : start + more]
    return "\0"


def _renumbered_problem(shown: list[tuple[int, int]], note: str) -> str:
    """Each number shown in place of another must be told by the note."""
    told: dict[int, int] = {}
    for entry in _ENTRY.finditer(note):
        first, last, one, _ = (int(group) if group else 0 for group in entry.groups())
        for step in range(max(1, last - first + 1)):
            told[first + step] = one + step
    base = min((number for _, number in shown), default=1)
    for place, number in shown:
        own = place - 1 + base
        if number != own and told.get(number) != own:
            return f"number {number} is shown for document {own}, and no note tells"
    return ""


def _parts_problem(sent: Any, got: Any) -> str:
    """Parts may only change places among themselves."""
    bodies = [Counter(_parts(body)) for body in (sent, got)]
    added = bodies[1] - bodies[0]
    lost = bodies[0] - bodies[1]
    return f"parts changed: {next(iter(lost or added))[:80]}" if lost or added else ""


def _parts(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for value in node:
            yield from _parts(value)
    elif isinstance(node, dict) and isinstance(node.get("content"), list):
        yield from _parts(node["content"])
    elif isinstance(node, dict) and isinstance(node.get("messages"), list):
        yield from _parts(node["messages"])
    else:
        yield json.dumps(node, sort_keys=True)

"""Checks every reference of a rewritten prompt against the prompt that was sent.

It knows nothing of how references are made, only how they read (`_FORMS`). Each must quote what
begins exactly one line of all before it; that line must stand in an earlier message, and in the one
that the reference names; and the lines that stand there must give back, line by line, what was
sent. So what was taken out is always in full view, and nothing else is new.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

_PLACE = r"(?P<place>[a-z ]+ #\d+)"
_QUOTE = r"(?P<mark>[\"'`«“]?)(?P<quote>.*?)[\"'`»”]?"
_NUMBERED = r"(?:numbered from (?P<number>\d+),? )?"
_FORMS = (
    re.compile(
        rf"\[(?P<count>\d+) lines? (?:x(?P<times>\d+) )?"
        rf"(?:omitted, )?{_NUMBERED}(?:same as )?(?:above|#\d+|{_PLACE}):? {_QUOTE}\]"
    ),
    re.compile(
        r"\[(?P<count>\d+) lines? omitted(?:, numbered from (?P<number>\d+))?: "
        rf"lines? (?P<first>\d+)(?:-\d+)? of {_PLACE}\]"
    ),
    re.compile(rf"\[Identical: the same (?P<count>\d+) lines? as {_PLACE}(?:, {_QUOTE})?\]"),
)
_IDENTICAL = re.compile(rf"\[Identical: the same \d+ lines? as {_PLACE}(?:, .*)?\]")
_HINTS = (
    re.compile(r'Given earlier in this conversation, beginning "(?P<quote>.*)"\.'),
    re.compile(rf'Given earlier in this conversation, in {_PLACE}, beginning "(?P<quote>.*)"\.'),
)
_LISTED = re.compile(r"\s*(\d+)(?:[:|\t→-]|\s{2})\s?")
_LONGEST_BLOCK = 400
_KINDS = {"tool": "tool result", "user": "user message", "assistant": "assistant message"}


class Text(NamedTuple):
    """A text of a request: the message it belongs to, as "tool result #1", and what it says."""

    source: str
    text: str


class Line(NamedTuple):
    """A line that stands before a reference."""

    source: str
    text: str


def reference_problem(sent: Any, got: Any, may_move: bool = False) -> str:
    """Return why a reference of a rewritten request cannot be followed; "" if all can.

    Where blocks moved, the lines that the references give back may stand in another order.
    """
    originals, written = list(texts_of(sent)), list(texts_of(got))
    if len(originals) != len(written):
        return f"{len(originals)} texts were sent, {len(written)} arrive"
    before: list[Line] = []
    whole: dict[str, str] = {}
    found: tuple[list[str], list[str]] = ([], [])
    for original, text in zip(originals, written, strict=True):
        for one, two in _inner(original, text, whole):
            if one.text != two.text:
                walk = _Walk(one.text.split("\n"), two, before)
                problem = walk.problem()
                if problem and may_move:
                    found[0].extend(one.text.split("\n"))
                    found[1].extend(walk.followed())
                elif problem:
                    return f"{two.source}: {problem}"
            before += [Line(two.source, line) for line in two.text.split("\n")]
        whole[text.source] = text.text
    lost = Counter(found[0]) - Counter(found[1])
    return f"lost where blocks moved: {next(iter(lost))[:60]!r}" if lost else ""


def followed(got: Mapping[str, Any]) -> Iterator[Text]:
    """Yield the texts of a rewritten request, with what its references name in their place.

    A reference that cannot be followed stays.
    """
    before: list[Line] = []
    for source, text in texts_of(got):
        for one in _strings(text):
            yield Text(source, "\n".join(_Walk((), Text(source, one), before).followed()))
            before += [Line(source, line) for line in one.split("\n")]


def is_reference(line: str) -> bool:
    """Return whether a line says that lines stand elsewhere."""
    return any(form.fullmatch(line.strip()) for form in _FORMS)


def _inner(sent: Text, got: Text, whole: Mapping[str, str]) -> Iterator[tuple[Text, Text]]:
    """Yield the strings of two JSON texts in pairs; other texts as they are."""
    said = _IDENTICAL.fullmatch(got.text)
    if said is not None and whole.get(said["place"]) == sent.text:
        return  # one sentence for a whole text, which stands in full view
    one, two = (list(_strings(text.text)) for text in (sent, got))
    if len(one) != len(two):
        one, two = [sent.text], [got.text]
    for original, written in zip(one, two, strict=True):
        yield Text(sent.source, original), Text(got.source, written)


def texts_of(body: Mapping[str, Any]) -> Iterator[Text]:
    """Yield the texts of a body in the order in which a reader meets them."""
    for name in ("system", "instructions", "prompt"):
        for text in _plain(body.get(name)):
            yield Text("system message #1", text)
    counts: Counter[str] = Counter()
    turns = body.get("messages", body.get("input", []))
    for turn in turns if isinstance(turns, list) else [turns]:
        yield from _turn_texts(turn, counts)


def _turn_texts(turn: Any, counts: Counter[str]) -> Iterator[Text]:
    """Yield the texts of a message, or of an item of the Responses API."""
    if not isinstance(turn, Mapping):
        turn = {"role": "user", "content": turn}
    content = turn.get("content", turn.get("output"))
    kind = _KINDS.get(str(turn.get("role", "tool")), "system message")
    parts = content if isinstance(content, list) else [content]
    results = [part for part in parts if _type(part) == "tool_result"]
    if kind == "tool result" and "output" not in turn and "content" not in turn:
        return  # a call
    for part in results or [content]:
        inner = part.get("content") if isinstance(part, Mapping) else part
        observed = isinstance(inner, str) and inner.startswith("Observation:")
        own = "tool result" if _type(part) == "tool_result" or observed else kind
        counts[own] += 1
        for text in _plain(inner):
            yield Text(f"{own} #{counts[own]}", text)


def _type(part: Any) -> str:
    return str(part.get("type")) if isinstance(part, Mapping) else ""


def _plain(node: Any) -> Iterator[str]:
    """Yield the texts within a content."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping | list):
        for value in node.values() if isinstance(node, Mapping) else node:
            yield from _plain(value)


def _strings(text: str) -> Iterator[str]:
    """Yield the string values of a JSON text, and of the JSON texts among them; or the text."""
    inner = _parsed(text)
    if inner is None:
        yield text
        return
    for value in _plain(inner):
        yield from _strings(value)


def _parsed(text: str) -> Any:
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        inner = json.loads(text)
    except ValueError:
        return None
    return inner if isinstance(inner, dict | list) else None


class _Walk:
    """Reads a rewritten text beside the one that was sent, and follows its references."""

    def __init__(self, sent: Sequence[str], got: Text, before: Sequence[Line]) -> None:
        self._sent = sent
        self._got = got
        self._before = list(before)
        self._at = 0

    def problem(self) -> str:
        """Return the first thing that is wrong."""
        lines = self._got.text.split("\n")
        for number, line in enumerate(lines):
            if self._at < len(self._sent) and line == self._sent[self._at]:
                self._at += 1
            elif problem := self._changed(line, lines[number + 1 : number + 2]):
                return problem
            self._before.append(Line(self._got.source, line))
        left = len(self._sent) - self._at
        return f"{left} lines are gone without a word" if left else ""

    def followed(self) -> list[str]:
        """Return the lines with those that references name in their place."""
        lines: list[str] = []
        for line in self._got.text.split("\n"):
            match = next((m for form in _FORMS if (m := form.fullmatch(line.strip()))), None)
            said = match.groupdict() if match else {}
            start = self._place(said.get("quote"), said.get("place")) if match else ""
            if isinstance(start, int) and line not in self._sent:
                start += int(said.get("first") or 1) - 1
                there = self._before[start : start + int(said["count"])]
                lines += [one.text for one in there]
            else:
                lines.append(line)
        return lines

    def _changed(self, line: str, following: Sequence[str]) -> str:
        for form in _FORMS:
            if match := form.fullmatch(line.strip()):
                return self._lines_problem(match)
        for form in _HINTS:
            if match := form.search(line):
                return self._hint_problem(match, line, following)
        return f"a line is new, and no reference: {line[:100]!r}"

    def _lines_problem(self, match: re.Match[str]) -> str:
        said = match.groupdict()
        start = self._place(said.get("quote"), said.get("place"))
        if isinstance(start, str):
            return f"{start}: {match[0][:110]!r}"
        start += int(said.get("first") or 1) - 1
        count, times = int(said["count"]), int(said.get("times") or 1)
        there = [line.text for line in self._before[start : start + count]] * times
        named = self._sent[self._at : self._at + count * times]
        if not _same(named, there):
            return f"what it names is not what was there: {match[0][:110]!r}"
        number = said.get("number")
        if number is not None and _number(named[0]) != int(number):
            return f"its first line has another number: {match[0][:110]!r}"
        self._at += count * times
        return ""

    def _hint_problem(self, match: re.Match[str], line: str, following: Sequence[str]) -> str:
        """The block that was here, whatever its length, must stand where the hint says."""
        said = match.groupdict()
        start = self._place(said["quote"].removesuffix("…"), said.get("place"))
        if isinstance(start, str):
            return f"{start}: {match[0][:110]!r}"
        there = "\n".join(line.text for line in self._before[start : start + _LONGEST_BLOCK])
        there = there[there.find(said["quote"].removesuffix("…")) :]
        prefix, suffix = line[: match.start()], line[match.end() :]
        for length in range(1, _LONGEST_BLOCK):
            gone = "\n".join(self._sent[self._at : self._at + length])
            after = self._sent[self._at + length : self._at + length + 1]
            fits = gone.startswith(prefix) and gone.endswith(suffix)
            content = gone[len(prefix) : len(gone) - len(suffix)].strip()
            if fits and there.startswith(content) and list(after) in (list(following), []):
                self._at += length
                return ""
        return f"what it names is not what was there: {match[0][:110]!r}"

    def _place(self, quote: str | None, place: str | None, first: int = 1) -> int | str:
        """Return which line before it a reference names, or why that is not one line."""
        if not quote:
            found = [at for at, line in enumerate(self._before) if line.source == place]
            return found[first - 1] if len(found) >= first else f"there is no such line of {place}"
        found = [at for at, line in enumerate(self._before) if line.text.lstrip().startswith(quote)]
        if len(found) != 1:
            return f"{len(found)} lines before it begin so"
        source = self._before[found[0]].source
        if source == self._got.source:
            return "it names its own text, which is a first reading"
        if place is not None and source != place:
            return f"that line stands in {source}"
        return found[0]


def _same(named: Sequence[str], there: Sequence[str]) -> bool:
    """Equal lines; the numbers of a listing aside."""
    if len(named) != len(there):
        return False
    pairs = zip(named, there, strict=True)
    return all(a == b or _bare(a) == _bare(b) or a.strip() == b.strip() for a, b in pairs)


def _bare(line: str) -> str:
    return _LISTED.sub("", line, count=1).strip()


def _number(line: str) -> int | None:
    match = _LISTED.match(line)
    return int(match[1]) if match else None

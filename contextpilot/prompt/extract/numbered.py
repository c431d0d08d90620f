"""Numbered lists of blocks: `[1] ...`, `Document 1: ...`, `Source ID: 1`, `1. ...`.

The marks of a text are read in one pass, by their style. A style's numbers go up by one from 0 or
1; where they begin again, an example stood before, and the last list is the one that counts.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from contextpilot.prompt.extract.endings import movable
from contextpilot.prompt.extract.group import MAX_PIECES, Found, Piece, Span, too_many
from contextpilot.prompt.extract.ordered import are_in_order
from contextpilot.prompt.extract.page import Page
from contextpilot.prompt.extract.scan import LinePattern, matches
from contextpilot.prompt.extract.vocabulary import (
    FIELD_LABELS,
    PLAIN_WRAPPERS,
    QUESTION_LABELS,
    QUESTION_MARKS,
    RETRIEVAL_WRAPPERS,
    WRAPPERS,
)

WORDS = (
    r"(?:(?:(?:search|retrieval)[ \t]{0,4})?result|hit|citation|document|doc|passage|"
    r"source|context|chunk|snippet|reference|memory|excerpt|evidence|webpage|dokument|quelle|documento|fuente|fonte|документ|"
    r"источник|extrait|trecho|fragmento|extracto|auszug|bron|belge|kaynak|tài liệu|källa|"
    r"kilde|źródło|dokumentum|dokumen|asiakirja)"
)
_HAN_WORDS = r"(?:文档|资料|参考资料|参考|来源|文書|資料|参考文献|문서|자료)"
_MARK = re.compile(
    rf"[ \t]{{0,8}}(?:"
    rf"\[(?P<bracket>\d{{1,4}})\][:.)]?|"
    rf"(?:\#{{1,6}}[ \t]{{1,4}}|[-=]{{2,5}}[ \t])?(?:begin[ \t])?(?:\*\*)?[\[【]?"
    rf"(?P<word>{WORDS}|{_HAN_WORDS})[ \t]{{0,4}}"
    rf"(?P<id>ids?[ \t]{{0,2}}[:#]|:(?=[ \t]{{0,4}}\d{{1,4}}[ \t]{{0,4}}$))?"
    rf"[ \t]{{0,4}}(?:\#|no\.?[ \t]{{0,4}})?\[?(?P<number>\d{{1,4}})(?:[ \t]begin)?[\]】]?"
    rf"(?:[ \t]{{0,2}}[-=]{{2,5}}(?=[ \t]{{0,4}}$)|[ \t]?\|[^\]\n]{{1,120}}\](?=[ \t]{{0,4}}$)|"
    rf"(?:\*\*)?[ \t]?(?:[:：]{{1,3}}(?:\*\*)?|[.)\-–—](?:\*\*)?|(?=[ \t]{{0,4}}\()|"
    rf"(?=[ \t]{{0,4}}$)|"
    rf"(?<=[\]】])))|"
    rf"(?P<field>id|source[ \t]id|"
    rf"doc[ \t]id)[ \t]?:[ \t]{{0,4}}(?P<fieldnumber>\d{{1,4}})(?=[ \t]{{0,4}}$)|"
    rf"(?P<dotted>\d{{1,4}})[.)](?=[ \t]))[ \t]{{0,8}}",
    re.IGNORECASE | re.MULTILINE,
)
_LINE = LinePattern(r"(?=([^\d\n]{0,48}))\1\d")
"""A line that has a number near its beginning, as every mark has; what leads to it, in one try."""
_MAX_LINES = 20_000
_INLINE = re.compile(r"\[(\d{1,3})\][:.)]?[ \t]{0,4}(?=\S)")
MIN_MEAN_CHARS = 80
"""Shorter lists are choices or steps as often as documents: automatic detection passes them by."""
_MIN_INLINE_CHARS = 40
_QUESTION_CHARS = 400
_CLOSING = re.compile(
    r"(?:\[[^\[\]\n]{1,24}?(\d{1,4})[^\[\]\n]{0,8}\]|"
    r"^[-=]{2,5}[ \t]end[ \t][^\d\n]{0,24}(\d{1,4})[ \t]?[-=]{2,5})\s*$",
    re.IGNORECASE | re.MULTILINE,
)
_RULE_END = re.compile(r"\s*\n[ \t]*(?:-{3,}|={3,}|_{3,}|\*{3,})[ \t]*\Z")
_FIELD_LINE = re.compile(r"[ \t]{0,8}([A-Za-z][\w ]{1,24}):[ \t]*\S")
_EXAMPLE_END = re.compile(
    r"\b(?:question|query|answer|example|now it'?s your turn|q|a)\b[^\n]{0,2}:|your turn|\bexample",
    re.IGNORECASE,
)
_ASKED_AFTER = re.compile(
    rf"\n[ \t]{{0,4}}\n?[ \t#*]{{0,8}}(?:\w+[ \t]){{0,2}}(?:{QUESTION_LABELS})"
    r"[ \t*]{0,4}[:：]",
    re.IGNORECASE,
)


_LABELLED = re.compile(r"(?:\w+[ ]){0,2}(\w+):(?=[ \t\n])")
_DATED = re.compile(
    r"^\[\d+\] (?:\w+ )?(?:time|date): *(\d{4}-\d\d\S*)", re.IGNORECASE | re.MULTILINE
)
_CITED = re.compile(
    r"\bcit(?:e|es|ed|ing|ations?)\b[^\n]{0,160}\[(?:number|n|source number)\]", re.IGNORECASE
)
"""What says that numbers are those of sources: "cite each sentence with [number]"."""
_CITED_CHARS = 4000
_FIELDS = "bracket id"
"""The style of `[1] Title: ...`, `[1] URL: ...`: numbers that stand in a block again and again."""


class _Mark(NamedTuple):
    style: str
    start: int
    end: int
    label: Span
    number: int


def find_numbered(page: Page, region: Span, wrapper: str | None, *, auto: bool) -> list[Found]:
    """Return the numbered lists of a region, the likeliest first; none when unsure.

    Args:
        wrapper: the element that holds the region, in which nothing but blocks stands after the
            first number; None for a whole text.
        auto: look for evidence, and pass by short blocks.
    """
    styles: dict[str, list[_Mark]] = {}
    for mark in _marks(page.text, region):
        styles.setdefault(mark.style, []).append(mark)
    firsts = [_once_each(page.text, style) for style in styles.values()]
    lists = [found for style in firsts for found in _last_list(page, style)]
    lists.sort(key=lambda item: item[0][0].start)
    found = []
    for marks, against, example in lists:
        if marks[0].style == "dotted" and auto and not _is_plain_list(page, marks, region, wrapper):
            continue
        one = _as_found(page, marks, region, wrapper, auto)
        if one is not None:
            found.append(one._replace(against=one.against or against, example=example))
        if not auto:
            break
    return found


def find_inline(page: Page, region: Span, wrapper: str | None) -> Found | None:
    """Return the blocks of a list within one line: `[1] first [2] second`."""
    text = page.text
    first = text.find("[1]", *region)
    if first < 0:
        return None
    line = text.rfind("\n", region.start, first) + 1 or region.start
    end = text.find("\n", first, region.end)
    end = region.end if end < 0 else end
    marks = list(_INLINE.finditer(text, first, end))
    if len(marks) < 2 or [int(mark[1]) for mark in marks] != list(range(1, len(marks) + 1)):
        return None
    ends = [*(mark.start() for mark in marks[1:]), end]
    pieces = []
    for mark, until in zip(marks, ends, strict=True):
        body = Span(mark.end(), mark.end() + len(text[mark.end() : until].rstrip()))
        pieces.append(Piece(Span(mark.start(), body.end), body, Span(*mark.span(1))))
    if sum(p.body.end - p.body.start for p in pieces) < _MIN_INLINE_CHARS * len(pieces):
        return None
    intro = page.intro(first, line if text[line:first].strip() else region.start)
    why = "wrapper" if wrapper in WRAPPERS else "cue" if intro.announced or page.told else ""
    if page.is_found:
        why = "search-tool"
    against = "introduced-as-sequence" if intro.sequence else ""
    return Found("numbered", tuple(pieces), pieces[-1].span.end, why, against, page.role != "tool")


def _marks(text: str, region: Span) -> Iterator[_Mark]:
    for number, start in enumerate(_line_starts(text, region)):
        if number == _MAX_LINES:
            return
        match = _MARK.match(text, start, region.end)
        if match is None:
            continue
        if match["bracket"]:
            style, label = "bracket", "bracket"
        elif match["dotted"]:
            style, label = "dotted", "dotted"
        elif match["field"]:
            style, label = "id", "fieldnumber"
        else:
            style, label = match["word"].lower() + (" id" if match["id"] else ""), "number"
        span = Span(*match.span(label))
        yield _Mark(style, match.start(), match.end(), span, int(match[label]))


def _line_starts(text: str, region: Span) -> Iterator[int]:
    """Yield where marks may stand: at lines, and right after the tag that opens a wrapper."""
    if region.start and text[region.start - 1] != "\n":
        yield region.start
    yield from (line.start() for line in matches(_LINE, text, region))


def _once_each(text: str, marks: list[_Mark]) -> list[_Mark]:
    """Return marks once for each number where each stands before fields: of a title, an address."""
    fields = [_LABELLED.match(text, mark.end) for mark in marks]
    names = [field[1].lower() if field else "" for field in fields]
    numbers = {mark.number for mark in marks}
    if marks[0].style != "bracket" or len(numbers) == len(marks) or names[0] not in FIELD_LABELS:
        return marks
    if not all(name in FIELD_LABELS or name in ("time", "date") for name in names):
        return marks
    kept: list[_Mark] = []
    for mark, name in zip(marks, names, strict=True):
        if name == names[0]:
            kept.append(mark._replace(style=_FIELDS))
        elif mark.number != kept[-1].number:
            return marks
    return kept


def _last_list(page: Page, marks: Sequence[_Mark]) -> Iterator[tuple[list[_Mark], str, int | None]]:
    """Yield the last list of a style, the rule against it, and where an example before it begins.

    A list before it is an example when a question or an answer stands between the two.
    """
    lists: list[list[_Mark]] = []
    for mark in marks:
        if mark.number <= 1 and not (lists and lists[-1][-1].number == 0 and mark.number == 1):
            lists.append([mark])
        elif lists and lists[-1][-1].number + 1 == mark.number:
            lists[-1].append(mark)
        else:
            lists.append([])
            break
    if not lists or len(lists[-1]) < 2:
        return
    for one, after in itertools.pairwise(lists):
        if len(one) < 2 or _EXAMPLE_END.search(page.text, one[-1].end, after[0].start) is None:
            yield lists[-1], "labels-unsure", None
            return
    yield lists[-1], "", lists[0][0].start if len(lists) > 1 else None


def _is_plain_list(page: Page, marks: Sequence[_Mark], region: Span, wrapper: str | None) -> bool:
    """Return whether `1. ...` items may be documents: only right after a cue, or in a wrapper."""
    if wrapper in PLAIN_WRAPPERS or page.is_found:
        return True
    if wrapper in WRAPPERS and _CITED.search(
        page.text, max(0, region.start - _CITED_CHARS), region.start
    ):
        return True
    intro = page.intro(marks[0].start, region.start)
    return intro.announced and not intro.sequence


def _as_found(
    page: Page, marks: Sequence[_Mark], region: Span, wrapper: str | None, auto: bool
) -> Found | None:
    if len(marks) > MAX_PIECES:
        return too_many(
            "numbered", [Piece(Span(m.start, m.end), Span(m.end, m.end)) for m in marks]
        )
    text = page.text
    begins = [region.start, *(mark.end for mark in marks)]
    before = [_field_before(text, m, begin) for m, begin in zip(marks, begins, strict=False)]
    if len({field for field, _ in before}) > 1:  # a field of the next block ends the one before
        own = {field for field, _ in before[1:]}
        last = text[marks[-1].end : region.end]
        if before[0][0] or len(own) > 1 or not _has_field(last, *own):
            return None
    if before[0][0]:
        marks = [m._replace(start=start) for m, (_, start) in zip(marks, before, strict=True)]
    pieces = movable(text, _cut(text, marks, region.end), region.end, closed=wrapper is not None)
    if len(pieces) < 2 or page.fences.is_inside(pieces[0].span.start):
        return None
    if not all(p.body.of(text).strip() and page.fences.are_closed(p.body) for p in pieces):
        return None
    if auto and _are_short(text, pieces):
        return None
    note_at = pieces[-1].span.end if len(pieces) == len(marks) else len(text)
    counted = "id" not in marks[0].style.split() and page.role != "tool"
    counted = counted and not all(_closes_itself(text, piece) for piece in pieces)
    why, against = ("mode", "") if not auto else _why(page, marks, region, wrapper)
    return Found("numbered", pieces, note_at, why, against, counted)


def _why(page: Page, marks: Sequence[_Mark], region: Span, wrapper: str | None) -> tuple[str, str]:
    """Return the rule for a list, and the one against it."""
    style = "bracket" if marks[0].style == _FIELDS else marks[0].style
    intro = page.intro(marks[0].start, region.start)
    against = "introduced-as-sequence" if intro.sequence else ""
    if marks[0].style == _FIELDS and _are_dated(page.text, marks, region.end):
        against = "times"
    if page.role == "tool" and style == "bracket" and marks[0].number == 0:
        return "", "elements"  # a browsing tool opens them by index
    if page.is_found:
        return "search-tool", against
    if wrapper in RETRIEVAL_WRAPPERS or (wrapper in WRAPPERS and page.role != "tool"):
        return "wrapper", against
    if page.role == "tool":
        return ("cue" if intro.announced else ""), against
    if style not in ("bracket", "dotted", "id", "result", "hit"):
        return "labels", against
    if intro.announced or page.told or (intro.told and style != "dotted"):
        return "cue", against
    if style == "bracket" and intro.empty and _is_asked_after(page.text, marks[-1].end, region.end):
        return "question-after", against
    return "", against


def _are_dated(text: str, marks: Sequence[_Mark], end: int) -> bool:
    """Return whether blocks have a date each, in order."""
    dates = [found[1] for found in islice(_DATED.finditer(text, marks[0].start, end), MAX_PIECES)]
    return len(dates) >= len(marks) and are_in_order(dates)


def _field_before(text: str, mark: _Mark, begin: int) -> tuple[str, int]:
    """Return the name of the field on the line right before a mark, and where that line starts."""
    if mark.style in ("bracket", "dotted"):
        return "", 0
    start = text.rfind("\n", begin, max(begin, mark.start - 1)) + 1
    match = _FIELD_LINE.match(text, start, mark.start) if start or not begin else None
    return (match[1], start) if match else ("", 0)


def _has_field(text: str, name: str) -> bool:
    """Return whether the last block ends with this field, too: then it is no label of the next."""
    fields = (_FIELD_LINE.match(line) for line in text.strip().split("\n"))
    return any(match is not None and match[1] == name for match in fields)


def _are_short(text: str, pieces: Sequence[Piece]) -> bool:
    """Return whether blocks are as short as choices; scripts without spaces say more in less."""
    total = sum(piece.body.end - piece.body.start for piece in pieces)
    far = sum(piece.body.of(text).isascii() or " " in piece.body.of(text) for piece in pieces)
    return total < (MIN_MEAN_CHARS if far else MIN_MEAN_CHARS // 3) * len(pieces)


def _closes_itself(text: str, piece: Piece) -> bool:
    """Return whether a block ends with its own number: `[END CONTEXT 2]`."""
    closing = _CLOSING.search(text, max(piece.body.start, piece.body.end - 40), piece.body.end)
    return (
        closing is not None
        and piece.label is not None
        and (piece.label.of(text) in closing.groups())
    )


def _is_asked_after(text: str, start: int, end: int) -> bool:
    """Return whether a question ends the text that a list begins."""
    if _ASKED_AFTER.search(text, start, end) is not None:
        return True
    last = text[max(start, end - _QUESTION_CHARS) : end].rstrip().rpartition("\n\n")
    return bool(last[1]) and last[2].endswith(QUESTION_MARKS)


def _cut(text: str, marks: Sequence[_Mark], end: int) -> list[Piece]:
    pieces = []
    for i, mark in enumerate(marks):
        until = marks[i + 1].start if i + 1 < len(marks) else end
        body = Span(mark.end, mark.end + len(text[mark.end : until].rstrip()))
        pieces.append(Piece(Span(mark.start, body.end), body, mark.label))
    return _without_rules(text, pieces)


def _without_rules(text: str, pieces: list[Piece]) -> list[Piece]:
    """Return the pieces without the rule that stands between each and the next."""
    rules = [_RULE_END.search(text, max(p.body.start, p.body.end - 80), p.body.end) for p in pieces]
    if not all(rules[:-1]):
        return pieces
    ends = [
        rule.start() if rule else piece.body.end for rule, piece in zip(rules, pieces, strict=True)
    ]
    return [
        Piece(Span(p.span.start, end), Span(p.body.start, max(p.body.start, end)), p.label)
        for p, end in zip(pieces, ends, strict=True)
    ]

"""Blocks written as fields (`Title: ...`), named by a file, a source or a key, or quoted."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from itertools import dropwhile, islice

from contextpilot.prompt.extract.cues import tells
from contextpilot.prompt.extract.endings import movable
from contextpilot.prompt.extract.group import MAX_PIECES, Found, Piece, Span, too_many
from contextpilot.prompt.extract.numbered import MIN_MEAN_CHARS
from contextpilot.prompt.extract.ordered import are_in_order, are_numbered_titles
from contextpilot.prompt.extract.page import Page
from contextpilot.prompt.extract.scan import LinePattern, holds, matches
from contextpilot.prompt.extract.vocabulary import (
    FIELD_LABELS,
    RECORD_FIELDS,
    RETRIEVAL_WRAPPERS,
    WRAPPERS,
)

_FIRST_FIELD = LinePattern(
    r"(?=[ \t*A-Za-z])(?=[\w \t*]{1,96}:)"
    r"[ \t]{0,4}\**([A-Za-z][\w ]{0,24}?)\**[ \t]?:\**(?=[ \t]|\n|$)"
)
_FIELD = re.compile(
    r"^[ \t>*-]{0,4}\**([A-Za-z][\w ]{0,24}?)\**[ \t]?:[ \t]*\**[ \t]*\S", re.MULTILINE
)
_NAMED = LinePattern(
    r"(?=[\[\w./\-=#<])(?:\[(?:source|document|doc|file|title|"
    r"url)s?[ \t]{0,2}[:=][ \t]{0,2}[^\]\n\d][^\]\n]{0,150}\]:?|"
    r"\[(?:score|relevance|similarity|distance)[ \t]{0,2}[:=][ \t]{0,2}-?\d{0,4}\.?\d{0,8}%?\]|"
    r"(?:document|passage|source|article|excerpt|context)[ \t]{0,2}\((?:title|source|name|url)"
    r"[ \t]{0,2}[:=][^()\n]{1,150}\)[ \t]{0,2}:?(?=[ \t\n])|"
    r"={2,6}[ \t]?\[[^\]\n]{1,150}\]:?(?=[ \t]{0,4}$)|"
    r"\#{1,6}[ \t](?:document|doc|source|passage|article|excerpt|file)[ \t]?:[ \t][^\n]{1,150}$|"
    r"(?:source|document|doc|chunk) id[ \t]?\[[\w\-]{4,64}\]:?(?=[ \t]{0,4}$)|"
    r"file_(?:path|name):[ \t][^\n]{1,150}$|"
    r"(?:<br>)?(?P<bold><br><b>(?:content|text|table|excerpt|passage) from [^\n<>]{1,150}</b>)|"
    r"\[?[\w./\-]{1,80}\.(?:pdf|md|txt|docx?|html?|pptx?|rst)(?:#page=\d{1,5})?\]?:(?=[ \t]))",
    re.IGNORECASE | re.MULTILINE,
)
_SCORED = re.compile(r"\b(?:relevance|score|similarity)[ \t]?[:=][ \t]?\d", re.IGNORECASE)
_KEY = r"[A-Za-z][\w.]{0,40}[\-_./\d][\w.\-/]{0,60}"
_KEYED = LinePattern(rf"(?=[\[A-Za-z])(?:\[({_KEY})\]:?|({_KEY}):)(?=[ \t]\S)")
"""A key of its own before each block, which is no name of a speaker: `[rye-2021] ...`."""
_OPENED = re.compile(
    r'[:：][ \t]{0,2}"(?=([A-Za-z][\w ]{0,24}?):[ \t][^"\n]{0,400}$)', re.MULTILINE
)
"""A list within quotation marks: `Information: "Source: ...`."""
_HEADING = LinePattern(r"#{1,4}[ \t]+[^\n]{1,200}$")
_ADDRESS = re.compile(
    r"[ \t*]{0,4}(?:\w+ )?(?:url|link|source)\**:\**[ \t]?(https?://[^\s#]{1,400})", re.IGNORECASE
)
_LINK = re.compile(r"#{1,4}[ \t]+[^\[\]\n]{0,24}\[[^\[\]\n]{1,200}\]\((https?://[^\s()#]{1,400})")
"""A heading that links to what stands below it."""
_PAGE = re.compile(
    r"^[ \t]{0,4}page(?:_label|[_ ]number)?[ \t]?:[ \t]*(\d{1,5})[ \t]*$|"
    r"\bfrom [^\n<>]{1,120}\(page (\d{1,5})\)",
    re.IGNORECASE | re.MULTILINE,
)
_ORIGIN = re.compile(
    r"^[ \t]{0,4}(?:file_path|file_name|file|source)[ \t]?:[ \t]*([^\n]+)|"
    r"\bfrom ([^\n<>]{1,120}?)[ \t]?\(page",
    re.IGNORECASE | re.MULTILINE,
)
_QUOTED = re.compile(r'^([^\n"]{0,80})\n"""\n(.*?)\n"""[ \t]*$', re.MULTILINE | re.DOTALL)
_TO_ANSWER = re.compile(
    r"\bus(?:e|ing) (?:only )?(?:this|the following) information to answer\b[^\n]{0,60}\s*\Z",
    re.IGNORECASE,
)
"""Information of any kind; of records that have an address each, it says that they were found."""
_TO_ANSWER_CHARS = 160
_RECORD_CHARS = 600
_OPENING_CHARS = 2000
_AFTER_CHARS = 600


def find_records(page: Page, region: Span, wrapper: str | None) -> Found | None:
    """Return blocks that each begin with the same field, or with a name in the same form."""
    return (
        _by_field(page, region, wrapper)
        or _by_name(page, region, wrapper)
        or _by_key(page, region, wrapper)
        or _by_heading(page, region, wrapper)
        or _by_quotes(page, region)
    )


def is_record(body: str) -> bool:
    """Return whether a block begins with the fields of a search hit."""
    names = {match[1].lower() for match in _FIELD.finditer(body[:_RECORD_CHARS])}
    return any(field in names for field in RECORD_FIELDS) and len(names) > 1


def _by_field(page: Page, region: Span, wrapper: str | None) -> Found | None:
    """Return records of two and more fields: after blank lines, or the same fields in turn."""
    text = page.text
    if not holds(text, region, ":"):
        return None
    opened = _OPENED.search(text, region.start, min(region.end, region.start + _OPENING_CHARS))
    begins: dict[str, list[int]] = {}
    if opened is not None:
        begins[opened[1].lower()] = [opened.end()]
    fields = [
        (match[1].lower(), match.start())
        for match in islice(matches(_FIRST_FIELD, text, region), 8 * MAX_PIECES)
        if match[1].lower() in FIELD_LABELS
    ]
    for name, start in fields:
        if _begins_paragraph(text, start, region.start):
            begins.setdefault(name, []).append(start)
    lists = sorted((marks[0], marks) for marks in begins.values() if len(marks) > 1)
    marks = lists[0][1] if lists else _in_turn(fields)
    if not marks:
        return None
    quoted = opened is not None and marks[0] == opened.end()
    if quoted and text.count('"', *marks[:2]) % 2:  # what was opened is closed before the second
        marks, quoted = marks[1:], False
    found = _as_found(page, marks, region, wrapper, quoted=quoted)
    if found is None:
        return None
    bodies = [piece.body.of(text) for piece in found.pieces]
    if any(len(_FIELD.findall(body[:_RECORD_CHARS])) < 2 for body in bodies):
        return None
    if not found.why and page.role == "tool" and all(map(is_record, bodies)):
        return found._replace(why="search-records")
    return found


def _in_turn(fields: Sequence[tuple[str, int]]) -> list[int]:
    """Return where records begin whose fields come in turn (a, b, a, b); none if they do not."""
    times = Counter(name for name, _ in fields)
    kept = list(dropwhile(lambda field: times[field[0]] == 1, fields))
    names = [name for name, _ in kept]
    turn = len(set(names))
    is_regular = turn > 1 and names == names[:turn] * (len(names) // turn)
    return [start for _, start in kept[::turn]] if is_regular else []


def _begins_paragraph(text: str, at: int, begin: int) -> bool:
    """Return whether nothing stands right before a place: a blank line, a rule, an introduction."""
    before = text[max(begin, at - 80) : at].split("\n")
    line = before[-2] if len(before) > 1 else ""
    return not line.strip(" \t-=*_") or line.rstrip().endswith((":", ">", '"""'))


def _by_name(page: Page, region: Span, wrapper: str | None) -> Found | None:
    """Return blocks that each begin with `[Source: name]` or `name.pdf:`."""
    if not holds(page.text, region, ":="):
        return None
    marks = list(islice(matches(_NAMED, page.text, region), MAX_PIECES + 1))
    if len(marks) < 2:
        return None
    begins = [mark.start("bold" if mark["bold"] else 0) for mark in marks]
    found = _as_found(page, begins, region, wrapper)
    if found is not None and not found.why and all(_SCORED.search(mark[0]) for mark in marks):
        return found._replace(why="scores")
    return found


def _by_key(page: Page, region: Span, wrapper: str | None) -> Found | None:
    """Return paragraphs with a key each, right after what announces documents."""
    text = page.text
    if not holds(text, region, ":["):
        return None
    keyed = [
        match
        for match in islice(matches(_KEYED, text, region), MAX_PIECES + 1)
        if _begins_paragraph(text, match.start(), region.start)
    ]
    keys = [match[1] or match[2] for match in keyed]
    if len(keys) < 2 or len(set(keys)) < len(keys) or len({m[1] is None for m in keyed}) > 1:
        return None
    found = _as_found(page, [match.start() for match in keyed], region, wrapper)
    if found is None or not (wrapper or page.intro(keyed[0].start(), region.start).announced):
        return None
    return found._replace(against="counted") if are_numbered_titles(keys) else found


def _by_heading(page: Page, region: Span, wrapper: str | None) -> Found | None:
    """Return what a search found, each under its title and its address."""
    text = page.text
    if not holds(text, region, "#"):
        return None
    headings = islice(matches(_HEADING, text, region), 8 * MAX_PIECES)
    found = [
        (h.start(), _LINK.match(h[0]) or _ADDRESS.match(text, h.end() + 1, region.end))
        for h in headings
    ]
    headed = [(start, address[1]) for start, address in found if address]
    listed = _as_found(page, [s for s, _ in headed], region, wrapper) if len(headed) > 1 else None
    if listed is None or not listed.why:
        return None
    is_one_page = len({address for _, address in headed}) == 1 and not page.is_found
    return listed._replace(against="document-file") if is_one_page else listed


def _by_quotes(page: Page, region: Span) -> Found | None:
    """Return blocks between triple quotation marks, under the same line each."""
    text = page.text
    marks = list(islice(_QUOTED.finditer(text, *region), MAX_PIECES)) if '"""' in text else []
    if len(marks) < 2 or len({mark[1] for mark in marks}) > 1:
        return None
    if any(text[a.end() : b.start()].strip() for a, b in itertools.pairwise(marks)):
        return None
    intro = page.intro(marks[0].start(), region.start)
    pieces = tuple(Piece(Span(m.start(), m.end()), Span(*m.span(2))) for m in marks)
    against = "introduced-as-sequence" if intro.sequence else ""
    return Found("records", pieces, pieces[-1].span.end, _why(page, None, intro.announced), against)


def _as_found(
    page: Page, marks: Sequence[int], region: Span, wrapper: str | None, *, quoted: bool = False
) -> Found | None:
    """Return the blocks that begin at these marks; a quotation mark closes the last if `quoted`."""
    text = page.text
    if len(marks) > MAX_PIECES:
        return too_many("numbered", [Piece(Span(at, at), Span(at, at)) for at in marks])
    pieces = []
    for at, until in zip(marks, [*marks[1:], region.end], strict=True):
        span = Span(at, at + len(text[at:until].rstrip(" \t\r\n-=*_")))
        pieces.append(Piece(span, span))
    moved = movable(text, pieces, region.end, closed=wrapper is not None or page.role == "tool")
    if quoted and len(moved) == len(marks):
        moved = _without_quote(text, moved)
    if len(moved) < 2 or page.fences.is_inside(moved[0].span.start):
        return None
    if sum(p.body.end - p.body.start for p in moved) < MIN_MEAN_CHARS * len(moved):
        return None
    if not all(page.fences.are_closed(piece.span) for piece in moved):
        return None
    note_at = moved[-1].span.end if len(moved) == len(marks) else len(text)
    intro = page.intro(marks[0], region.start)
    against = "introduced-as-sequence" if intro.sequence else ""
    if _are_pages_in_order([piece.span.of(text)[:_RECORD_CHARS] for piece in moved]):
        against = "counted"
    why = _why(page, wrapper, intro.announced or intro.told or page.told)
    if not why and page.role != "tool" and all(is_record(piece.body.of(text)) for piece in moved):
        after = text[max(moved[-1].span.end, region.end - _AFTER_CHARS) : region.end]
        near = text[max(region.start, marks[0] - _TO_ANSWER_CHARS) : marks[0]]
        told = tells(after) or _TO_ANSWER.search(near)  # "using the above information"
        why = "cue" if told else ""
    return Found("records", moved, note_at, why, against)


def _without_quote(text: str, pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
    """Return blocks without the quotation mark that closes the list, or without the last one."""
    *others, last = pieces
    whole = last.span.of(text).rstrip()
    if not whole.endswith('"'):
        return tuple(others)
    span = Span(last.span.start, last.span.start + len(whole[:-1].rstrip()))
    return (*others, Piece(span, span))


def _are_pages_in_order(heads: Sequence[str]) -> bool:
    """Return whether blocks tell pages of one file, and these are in order."""
    told = [match for match in map(_PAGE.search, heads) if match]
    origins = {
        "".join(filter(None, match.groups())) for match in map(_ORIGIN.search, heads) if match
    }
    pages = [int(match[1] or match[2]) for match in told]
    return len(pages) == len(heads) and len(origins) < 2 and are_in_order(pages)


def _why(page: Page, wrapper: str | None, announced: bool) -> str:
    if page.is_found:
        return "search-tool"
    if wrapper in RETRIEVAL_WRAPPERS or (wrapper in WRAPPERS and page.role != "tool"):
        return "wrapper"
    return "cue" if announced else ""

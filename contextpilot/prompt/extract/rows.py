"""Blocks in JSON: the rows of a search. A row moves as a whole, its ids and numbers within it.

The rows may stand after a tool's own header lines, in an object, and in a JSON string in JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence

from contextpilot.fields import HOLDER_FIELDS, TEXT_FIELDS
from contextpilot.prompt.extract.arrays import (
    Rows,
    only_rows,
    only_string,
    rows_in_lines,
    rows_within,
)
from contextpilot.prompt.extract.group import MAX_PIECES, Found, Piece, Span, too_many
from contextpilot.prompt.extract.json_spans import (
    Member,
    array_at,
    object_at,
    places_of,
    skip_space,
)
from contextpilot.prompt.extract.page import Page
from contextpilot.prompt.extract.scan import LinePattern
from contextpilot.prompt.extract.vocabulary import (
    ORIGIN_FIELDS,
    PAGE_FIELDS,
    PLAIN_SCORES,
    RETRIEVAL_WRAPPERS,
    SCORE_FIELDS,
    SEQUENCE_FIELDS,
    TIME_FIELDS,
    WRAPPERS,
)

_START = LinePattern(r"(?:\**Observation:\**)?[ \t]{0,8}(?=[\[{])")
_ARRAY = re.compile(r"\[[ \t\r\n]*\{")
_MAX_TRIES = 8
_MAX_HEADER_CHARS = 2000
_MIN_TEXT_CHARS = 40
_SCORED_TEXTS = ("answer", "name")
"""Texts of rows that have a score of relevance and no text by any other name."""


def find_rows(
    page: Page, region: Span, wrapper: str | None, *, anywhere: bool = False
) -> Found | None:
    """Return the objects of an array as blocks.

    The region is an array of objects, or an object with one, maybe after header lines.

    Args:
        anywhere: the caller named the form: take the first array with texts, wherever it stands.
    """
    if anywhere:
        return _embedded(page, region)
    text = page.text
    start = _start(text, region, True)
    if start is None:
        return None
    try:
        if page.role != "tool" and wrapper is None:
            return _after_cue(page, region, start)
        return _search(page, region, text, start, region.end, wrapper)
    except (ValueError, RecursionError):
        return None


def _after_cue(page: Page, region: Span, start: int) -> Found | None:
    """Return rows that stand in prose, after a sentence that announces documents."""
    intro = page.intro(start, region.start)
    if intro.sequence:
        return None
    array, end = rows_within(page.text, start)
    if not intro.announced and (array is None or array.holder not in RETRIEVAL_WRAPPERS):
        return None
    if array is None and page.text[start] == "{":
        array = rows_in_lines(page.text, start, region.end, whole=False)
        end = array.end if array is not None else end
    if array is None:
        return None
    found = _judged(page, array, end, None, lambda span: span, 1)
    return found._replace(why=found.why or "cue") if found is not None else None


def _start(text: str, region: Span, with_header: bool) -> int | None:
    """Return where JSON begins: with the region, or at a line after a tool's header."""
    first = skip_space(text, region.start)
    if text[first : first + 1] in ("[", "{"):
        return first
    until = min(region.end, first + _MAX_HEADER_CHARS)
    match = _START.search(text, first, until) if with_header else None
    return match.end() if match else None


def _search(
    page: Page, region: Span, text: str, start: int, end: int, wrapper: str | None
) -> Found | None:
    array = only_rows(text, start, end, 0)
    array = array or rows_in_lines(text, start, end)
    if array is not None:
        return _judged(page, array, region.end, wrapper, lambda span: span, 1)
    inner = only_string(text, start)
    if inner is None:
        return None
    decoded = str(json.loads(text[inner.start - 1 : inner.end + 1], strict=False))
    at = _start(decoded, Span(0, len(decoded)), True)
    if at is None:
        return None
    array = only_rows(decoded, at, len(decoded), 0)
    if array is None:
        return None
    place = places_of(text, inner)
    return _judged(page, array, None, wrapper, lambda s: Span(place(s.start), place(s.end)), 2)


def _judged(
    page: Page,
    array: Rows,
    note_at: int | None,
    wrapper: str | None,
    place: Callable[[Span], Span],
    depth: int,
) -> Found | None:
    """Return the rows as blocks, with the rules for and against moving them."""
    if len(array.elements) > MAX_PIECES:
        return too_many("json", [Piece(place(span), place(span)) for span in array.elements])
    wrapper = array.holder if array.holder in RETRIEVAL_WRAPPERS else wrapper
    rows = [_row(array.text, span) for span in array.elements]
    scores = _scores(rows)
    bodies = _bodies(array.text, rows) or _scored_names(page, array.text, rows)
    if bodies is None:
        return None
    spans = [(place(span), place(body)) for span, body in zip(array.elements, bodies, strict=True)]
    pieces = tuple(Piece(span, body) for span, body in spans)
    names = [_names(row) for row in rows]
    why = _why(page, wrapper, rows, names, scores)
    if why == "scores" and array.has_query:
        why = "declared-search"
    if scores is not None:
        note_at = None  # each row tells its rank itself
    against = "row-fields" if array.is_counted else _against(rows, names, scores, note_at)
    return Found("json", pieces, note_at, why, against, False, depth)


def _names(row: Sequence[Member]) -> set[str]:
    """Return the names of a row's members, and of those of the object with its text."""
    names = {member.key for member in row}
    for member in row:
        is_holder = member.key in HOLDER_FIELDS and member.key not in ("metadata", "meta")
        if is_holder and isinstance(member.value, dict):
            names.update(name for name in member.value if isinstance(name, str))
        elif member.key in TEXT_FIELDS and isinstance(member.value, str):
            names.update(_names_inside(member.value))
    return names


def _names_inside(text: str) -> Collection[str]:
    """Return the names of the members of an object that a text is itself."""
    if text[:1] != "{" or text[-1:] != "}":
        return ()
    try:
        inside = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return ()
    return inside.keys() if isinstance(inside, dict) else ()


def _row(text: str, span: Span) -> list[Member]:
    """Return the members of a row; one that is all under a label tells what stands there."""
    members = object_at(text, span.start)[0]
    label = members[0].key if len(members) == 1 and isinstance(members[0].value, dict) else ""
    if label.startswith("[") and label.endswith("]"):
        return object_at(text, members[0].span.start)[0]
    return members


def _why(
    page: Page,
    wrapper: str | None,
    rows: Sequence[list[Member]],
    names: Sequence[set[str]],
    scores: list[float] | None,
) -> str:
    has_origin = all(ORIGIN_FIELDS & known for known in names)
    if page.is_found and (has_origin or scores is not None):
        return "search-tool"
    if scores is not None and has_origin and _tell_relevance(names, scores):
        return "scores"
    if scores is None and len(rows) > 2 and _are_pages_chosen(rows):
        return "chosen-pages"
    in_wrapper = wrapper in RETRIEVAL_WRAPPERS or (wrapper in WRAPPERS and page.role != "tool")
    return "wrapper" if in_wrapper else ""


def _against(
    rows: Sequence[list[Member]],
    names: Sequence[set[str]],
    scores: list[float] | None,
    note_at: int | None,
) -> str:
    used = set().union(*names)
    if scores is not None and all("payload" in known for known in names):
        used.discard("version")  # a vector store counts how often a point was written
    if (SEQUENCE_FIELDS - PAGE_FIELDS) & used or any(
        name.startswith("@") and name != "@search.score" for name in used
    ):
        return "row-fields"
    if PAGE_FIELDS & used and not _are_pages_chosen(rows):
        return "row-fields"
    if TIME_FIELDS & used and (scores is None or _are_times_sorted(rows, scores)):
        return "times"
    if scores is None and note_at is None:
        return "rank-untold"
    return ""


def _are_pages_chosen(rows: Sequence[list[Member]]) -> bool:
    """Return whether all rows name a page, and the pages are in no order."""
    for name in PAGE_FIELDS:
        pages = [m.value for row in rows for m in row if m.key == name and isinstance(m.value, int)]
        if len(pages) == len(rows):
            return pages not in (sorted(pages), sorted(pages, reverse=True))
    return False


def _tell_relevance(names: Sequence[set[str]], scores: Sequence[float]) -> bool:
    """Return whether scores are surely of a search: by their name, or between 0 and 1 in order."""
    if all((SCORE_FIELDS - PLAIN_SCORES) & known for known in names):
        return True
    is_sorted = list(scores) in (sorted(scores), sorted(scores, reverse=True))
    return is_sorted and all(0 <= score <= 1 for score in scores) and any(s % 1 for s in scores)


def _scores(rows: Sequence[list[Member]]) -> list[float] | None:
    """Return the relevance score of each row; None unless all have one of the same name."""
    told = [_told_scores(row) for row in rows]
    shared = set(told[0]).intersection(*told[1:])
    for name in sorted(shared):
        return [known[name] for known in told]
    return None


def _told_scores(row: Sequence[Member]) -> dict[str, float]:
    """Return the scores of a row by name, those in its metadata too."""
    members = [(member.key, member.value) for member in row]
    for key, value in list(members):
        if key in ("metadata", "_additional") and isinstance(value, dict):
            members += [item for item in value.items() if isinstance(item[0], str)]
    return {
        key: float(value)
        for key, value in members
        if key in SCORE_FIELDS and isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def _are_times_sorted(rows: Sequence[list[Member]], scores: Sequence[float]) -> bool:
    """Return whether rows are in order of time, and not of their scores."""
    if len(set(scores)) > 1 and list(scores) in (sorted(scores), sorted(scores, reverse=True)):
        return False
    for name in TIME_FIELDS:
        values = [
            m.value for row in rows for m in row if m.key == name and isinstance(m.value, str)
        ]
        orders = (sorted(values), sorted(values, reverse=True))
        if len(values) == len(rows) and len(set(values)) > 1 and values in orders:
            return True
    return False


def _bodies(
    text: str, rows: Sequence[list[Member]], fields: Sequence[str] = TEXT_FIELDS
) -> list[Span] | None:
    """Return where the text of each row stands, without quotes; None unless all have one."""
    for name in fields:
        spans = [_text_span(text, row, name) for row in rows]
        known = [span for span in spans if span is not None]
        if len(known) == len(rows):
            return known
    return None


def _scored_names(page: Page, text: str, rows: Sequence[list[Member]]) -> list[Span] | None:
    """Return where the texts of rows stand that a search scored, and that have none by a name of
    texts: not names alone, as of a leaderboard."""
    similar = all((SCORE_FIELDS - PLAIN_SCORES) & {member.key for member in row} for row in rows)
    if not similar and not (page.is_found and _scores(rows)):
        return None
    bodies = _bodies(text, rows, _SCORED_TEXTS)
    is_long = bodies and sum(b.end - b.start for b in bodies) >= _MIN_TEXT_CHARS * len(bodies)
    return bodies if is_long else None


def _text_span(text: str, row: list[Member], name: str) -> Span | None:
    """Return where a row's text of this name stands: its own, or in an object or part within."""
    values = [member for member in row if member.key == name]
    if len(values) == 1 and isinstance(values[0].value, str):
        return Span(values[0].span.start + 1, values[0].span.end - 1) if values[0].value else None
    for holder in row:
        if holder.key in HOLDER_FIELDS and isinstance(holder.value, dict):
            if isinstance(holder.value.get(name), str):
                return _text_span(text, object_at(text, holder.span.start)[0], name)
        elif name == "text" and _is_one_part(holder):
            (part,), _ = array_at(text, holder.span.start)
            return _text_span(text, object_at(text, part.start)[0], name)
    return None


def _is_one_part(member: Member) -> bool:
    """Return whether a member is a content list of one part."""
    value = member.value
    is_list = member.key == "content" and isinstance(value, list) and len(value) == 1
    return is_list and isinstance(value[0], dict)


def _embedded(page: Page, region: Span) -> Found | None:
    text = page.text
    for tried, match in enumerate(_ARRAY.finditer(text, *region)):
        if tried == _MAX_TRIES:
            break
        try:
            elements, end = array_at(text, match.start())
            if end > region.end or not 1 < len(elements) <= MAX_PIECES:
                continue
            rows = [
                object_at(text, span.start)[0] if text[span.start] == "{" else []
                for span in elements
            ]
        except (ValueError, RecursionError):
            continue
        bodies = _bodies(text, rows)
        if bodies is not None:
            pieces = tuple(Piece(s, b) for s, b in zip(elements, bodies, strict=True))
            return Found("json", pieces, len(text), "mode", "", False, 1)
    return None

"""Which groups of blocks a text holds, by mode, and which lists are left and why."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from contextpilot.prompt.extract.evidence import Left
from contextpilot.prompt.extract.forged import holds_notes
from contextpilot.prompt.extract.group import MAX_GROUPS, MAX_PIECES, Found, Span
from contextpilot.prompt.extract.named_order import count_by_name
from contextpilot.prompt.extract.numbered import find_inline, find_numbered
from contextpilot.prompt.extract.ordered import (
    are_counted,
    are_in_order,
    count_up,
    sequence_reason,
)
from contextpilot.prompt.extract.ownership import labels_part
from contextpilot.prompt.extract.page import Page
from contextpilot.prompt.extract.records import find_records
from contextpilot.prompt.extract.rows import find_rows
from contextpilot.prompt.extract.sections import (
    find_bullets,
    find_files,
    find_markdown,
    find_ruled,
    find_separated,
)
from contextpilot.prompt.extract.tags import Tags, find_tagged
from contextpilot.prompt.extract.tools import AGAINST

_TITLE = re.compile(r"\b(?:title|name|label|heading|source)=[\"']([^\"'\n]{1,80})")
_PART = re.compile(
    r"\b(?:chunk|part|segment|slice)(?:_?(?:index|id|no|num|number))?=[\"']?(\d{1,6})"
)
_SOURCE = re.compile(
    r"\b(?:source|file|filename|path|url|title|doc(?:ument)?)=[\"']([^\"'\n]{1,400})"
)
_NAMED = re.compile(
    r"\s*(?:\w+[ ])?[\[(]?(?:title|source|name|file)[ ]?[:=][ \t\"']*([^\n\[\]()\"']{1,120})",
    re.IGNORECASE,
)
"""The title at the head of a block: `(Title: ...)`, `Document (Title: ...)`, `[Source: ...]`."""
_NAME_CHARS = 160
_Find: TypeAlias = "Callable[[Span, str | None], Iterator[Found | None]]"


class Finding(NamedTuple):
    """The groups of a text, in order, none overlapping another; and the lists that stay."""

    found: list[Found]
    left: list[Left]


def find_groups(page: Page, mode: str, separator: str | None = None) -> Finding:
    """Return the groups of a text and the lists that stay."""
    if mode == "parts":
        return Finding([], [])
    tags = Tags(page, any_name=mode == "xml")
    if tags.too_many:
        return Finding([], [Left("xml", len(tags.known) // 2, "too-many")])
    if mode in ("auto", "xml"):
        tagged = find_tagged(tags, mode)
        if tagged or mode == "xml":
            return _judged(page, tagged, mode)
    wrapped = tags.wrapped()
    if len(wrapped) > MAX_GROUPS:
        return Finding([], [Left("xml", len(wrapped), "too-many")])
    regions: list[tuple[Span, str | None]] = [(span, name) for name, span in wrapped]
    regions = regions or [(Span(0, len(page.text)), None)]
    find = _auto(page) if mode == "auto" else _one(page, mode, separator)
    found, left = [], []
    for region, wrapper in regions:
        one = _first(page, find(region, wrapper), mode)
        found += one.found
        left += one.left
    return Finding(found, left)


def _first(page: Page, candidates: Iterator[Found | None], mode: str) -> Finding:
    """Return the first list that may move; else what was found first, and why it stays."""
    left: list[Left] = []
    for candidate in candidates:
        if candidate is not None:
            judged = _judged(page, [candidate], mode)
            if judged.found:
                return judged
            left += judged.left
    told = [one for one in left if one.code != "no-evidence"] or left
    return Finding([], told[:1])


def _auto(page: Page) -> _Find:
    def candidates(region: Span, wrapper: str | None) -> Iterator[Found | None]:
        rows = find_rows(page, region, wrapper)
        yield rows
        if rows is not None:
            return
        yield from find_numbered(page, region, wrapper, auto=True)
        yield find_inline(page, region, wrapper)
        yield find_records(page, region, wrapper)
        yield find_bullets(page, region)
        yield find_files(page, region)
        yield find_ruled(page, region, wrapper)

    return candidates


def _one(page: Page, mode: str, separator: str | None) -> _Find:
    def candidates(region: Span, wrapper: str | None) -> Iterator[Found | None]:
        closed = wrapper is not None
        if mode == "json":
            yield find_rows(page, region, wrapper, anywhere=True)
        elif mode == "markdown":
            yield find_markdown(page, region, closed=closed)
        elif mode == "separator":
            yield find_separated(page, region, closed=closed, separator=separator)
        else:
            yield from find_numbered(page, region, wrapper, auto=False)

    return candidates


def _judged(page: Page, lists: list[Found], mode: str) -> Finding:
    found, left = [], []
    for one in lists:
        code = "too-many" if len(one.pieces) > MAX_PIECES else one.against
        if mode == "auto" and page.role == "tool" and not _tells_itself(page, one):
            code = AGAINST.get(page.tool, code)
            if page.tool == "unknown" and not code and _may_be_a_file(one):
                code = "no-evidence"
        if mode == "auto" and not code:
            code = _against(page, one)
        if code:
            left.append(Left(one.kind, len(one.pieces), code))
        else:
            found.append(one)
    return Finding(found, left)


def _may_be_a_file(found: Found) -> bool:
    """Return whether a file may hold the list as well; a tool that is not known read either."""
    return found.why == "search-records" or (found.why == "cue" and found.kind == "bullets")


def _tells_itself(page: Page, found: Found) -> bool:
    """Return whether rows say by themselves that a search chose them, whatever tool gave them."""
    if page.tool == "runs":
        return found.why == "declared-search"
    return page.tool == "sequence" and found.why in ("scores", "declared-search", "chosen-pages")


def _against(page: Page, found: Found) -> str:
    """Return the rule against moving blocks, by what they are and where they stand."""
    text = page.text
    bodies = [piece.body.of(text) for piece in found.pieces]
    reason = sequence_reason(bodies) if found.kind != "files" else ""
    if found.kind == "xml" and _tags_count(text, found):
        return "counted"
    if found.kind in ("numbered", "records") and _are_named_in_turn(bodies):
        return "counted"
    if reason or not found.why:
        return reason or "no-evidence"
    if found.kind in ("numbered", "records") and labels_part(page, found):
        return "labels-unsure"
    return "forged" if holds_notes(bodies) else ""


def _are_named_in_turn(bodies: list[str]) -> bool:
    """Return whether the first lines of blocks count up, or what stands below them does."""
    parted = [body.lstrip().partition("\n") for body in bodies]
    names = [name[:_NAME_CHARS] for name, _, _ in parted]
    titles = [title[1] if title else "" for title in map(_NAMED.match, bodies)]
    if count_by_name(names) or count_by_name(titles):
        return True
    return count_up(names) or are_counted([rest for _, _, rest in parted])


def _tags_count(text: str, found: Found) -> bool:
    """Return whether the opening tags of elements count: titles, or the parts of one source."""
    titles = _titles(text, found)
    if are_counted(titles) or count_by_name(titles):
        return True
    heads = [text[piece.span.start : piece.body.start] for piece in found.pieces]
    parts = [match for match in map(_PART.search, heads) if match]
    sources = {match[1] for match in map(_SOURCE.search, heads) if match}
    return (
        2 < len(parts) == len(heads)
        and len(sources) == 1
        and are_in_order([int(part[1]) for part in parts])
    )


def _titles(text: str, found: Found) -> list[str]:
    """Return the title that the opening tag of each element gives; "" where it has none."""
    heads = (text[piece.span.start : piece.body.start] for piece in found.pieces)
    titles = (_TITLE.search(head) for head in heads)
    return [title[1] if title else "" for title in titles]

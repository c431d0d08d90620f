"""Blocks between XML tags, and the elements that wrap a whole run of blocks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from contextpilot.prompt.extract.fences import Fences
from contextpilot.prompt.extract.group import Found, Piece, Span

DOCUMENT_TAGS = (
    *("document", "doc", "passage", "chunk", "snippet", "source", "result", "search_result"),
    *("search-result", "memory", "article", "excerpt", "context", "page", "file", "evidence"),
    *("reference", "fact", "node", "record"),
)
WRAPPER_TAGS = (
    *("documents", "docs", "passages", "chunks", "snippets", "sources", "results", "memories"),
    *("search_results", "search-results", "articles", "excerpts", "context", "contexts", "pages"),
    *("files", "evidence", "references", "facts", "knowledge", "records"),
    *("retrieved_context", "retrieved_documents"),
)

_NAME = r"[A-Za-z_][\w.\-]{0,63}"
_TAG = re.compile(rf"<(/?)({_NAME})((?:\s[^<>]*)?)>")
_NUMBER = re.compile(
    r"""\s(?:index|id|idx|n|number|rank)\s*=\s*(["']?)(\d{1,6})(?=\1(?:[\s/]|$))"""
)


class Element(NamedTuple):
    """`<name ...>body</name>`, with no element of the same name within."""

    span: Span
    body: Span
    opening: Span


def find_tagged(text: str, names: Iterable[str] | None) -> list[Found]:
    """Return the outermost runs of two and more sibling elements of one name.

    Nothing but white space stands between siblings. A name whose tags do not alternate between
    opening and closing throughout the text is passed over, and so are runs in code fences.

    Args:
        names: which elements count; None for any.
    """
    runs, fences = [], Fences(text)
    for elements in _elements(text, names).values():
        runs += [run for run in _siblings(text, elements) if _is_prose(text, run, fences)]
    runs.sort(key=lambda run: (run[0].span.start, -run[-1].span.end))
    found: list[Found] = []
    end = 0
    for run in runs:
        if run[0].span.start >= end:
            end = run[-1].span.end
            found.append(Found("xml", tuple(_piece(text, element) for element in run), end))
    return found


def find_wrapped(text: str) -> list[Span]:
    """Return what stands within the innermost wrapper elements."""
    spans = sorted(e.body for group in _elements(text, WRAPPER_TAGS).values() for e in group)
    starts = [*(span.start for span in spans[1:]), len(text)]
    return [span for span, following in zip(spans, starts, strict=False) if span.end <= following]


def _elements(text: str, names: Iterable[str] | None) -> dict[str, list[Element]]:
    """Return the elements of each name whose tags alternate."""
    wanted = None if names is None else frozenset(names)
    opened: dict[str, re.Match[str]] = {}
    elements: dict[str, list[Element]] = {}
    unsure = set()
    for tag in _TAG.finditer(text):
        name = tag[2]
        if (wanted is not None and name not in wanted) or (not tag[1] and tag[3].endswith("/")):
            continue
        start = opened.pop(name, None)
        if bool(tag[1]) is (start is None):
            unsure.add(name)
        elif start is None:
            opened[name] = tag
        else:
            body = Span(start.end(), tag.start())
            span = Span(start.start(), tag.end())
            elements.setdefault(name, []).append(Element(span, body, Span(*start.span())))
    for name in unsure | set(opened):
        elements.pop(name, None)
    return elements


def _siblings(text: str, elements: Sequence[Element]) -> Iterator[list[Element]]:
    run: list[Element] = []
    for element in elements:
        if run and text[run[-1].span.end : element.span.start].strip():
            if len(run) > 1:
                yield run
            run = []
        run.append(element)
    if len(run) > 1:
        yield run


def _is_prose(text: str, run: Sequence[Element], fences: Fences) -> bool:
    """Return whether no block of a run is empty, in a code fence, or leaves one open."""
    if fences.is_inside(run[0].span.start):
        return False
    return all(fences.are_closed(e.span) and e.body.of(text).strip() for e in run)


def _piece(text: str, element: Element) -> Piece:
    number = _NUMBER.search(text, element.opening.start, element.opening.end - 1)
    return Piece(element.span, element.body, Span(*number.span(2)) if number else None)

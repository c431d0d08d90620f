"""Blocks between XML tags, and the elements that wrap a whole run of blocks.

All tags of a text are read once. A run is made of sibling elements of one name with nothing but
white space between. Tags that do not fit it are allowed as a mention in prose on an earlier line,
or before the wrapper that holds the run; anywhere else a block may have forged one, and the run
stays.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from contextpilot.prompt.extract.group import MAX_GROUPS, Found, Piece, Span, too_many
from contextpilot.prompt.extract.page import Page
from contextpilot.prompt.extract.vocabulary import (
    COUNTING_ATTRIBUTES,
    CUED_TAGS,
    DOCUMENT_TAGS,
    FOUND_TAGS,
    LOOSE_TAGS,
    OUTPUT_TAGS,
    RETRIEVAL_WRAPPERS,
    SCORE_FIELDS,
    SEQUENCE_ATTRIBUTES,
    TITLED_WRAPPERS,
    TOLD_WRAPPERS,
    WATCHED_TAGS,
    WRAPPERS,
)

MAX_TAGS = 20_000
NUMBERED = "#"
"""The name under which elements like `<1>` count as siblings."""
_TAG = re.compile(r"<(/?)([A-Za-z_][\w.\-]{0,63}|\d{1,3})((?:\s[^<>]{0,2000})?)>")
_ATTRIBUTE = re.compile(r"""([\w.\-:@]{1,40})\s{0,4}=\s{0,4}(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""")
_COUNTED_NAME = re.compile(
    r"(?:(?:document|doc|passage|source|context|chunk|snippet|result|memory)[_\-]?)?\d{1,3}"
)
_TITLED = DOCUMENT_TAGS | WRAPPERS
_WRAPPING = WRAPPERS | TITLED_WRAPPERS
_SOMETIMES = LOOSE_TAGS | CUED_TAGS | FOUND_TAGS | WATCHED_TAGS | TOLD_WRAPPERS
_KNOWN = DOCUMENT_TAGS | _SOMETIMES | _WRAPPING | {NUMBERED}
_TOLD = re.compile(r"\b(?:search|retriev)\w*\b[^\n<]{0,120}<(\w{1,40})>", re.IGNORECASE)
"""A sentence that tells in which element the results of a search stand."""
_TOLD_CHARS, _SEARCHED = 4000, "search_results"
_TITLES = frozenset(("title", "url", "href", "link", "source"))


def _plain(name: str) -> str:
    """Return a name as the vocabulary has it: `<Document>` is a document, too."""
    small = name.lower()
    return small if name.istitle() and small in _TITLED and name not in _KNOWN else name


class Tag(NamedTuple):
    """One tag; `name` is `#` for a number, and for `document_1`."""

    name: str
    closes: bool
    start: int
    end: int
    written: str


class Element(NamedTuple):
    """`<name ...>body</name>`, with no element of the same name within."""

    opening: Tag
    closing: Tag

    @property
    def span(self) -> Span:
        """All of it."""
        return Span(self.opening.start, self.closing.end)

    @property
    def body(self) -> Span:
        """What stands between its tags."""
        return Span(self.opening.end, self.closing.start)


class Tags:
    """The tags of a text, by name."""

    def __init__(self, page: Page, any_name: bool = False) -> None:
        self.page = page
        self.by_name: dict[str, list[Tag]] = {}
        self.known: list[Tag] = []
        self.outputs: list[int] = []
        self.too_many = False
        for number, match in enumerate(_TAG.finditer(page.text) if "</" in page.text else ()):
            if number == MAX_TAGS:
                self.too_many = True
                break
            if not match[1] and match[3].endswith("/"):
                continue
            name = NUMBERED if _COUNTED_NAME.fullmatch(match[2]) else _plain(match[2])
            tag = Tag(name, bool(match[1]), match.start(), match.end(), match[2])
            if name in OUTPUT_TAGS:
                self.outputs.append(tag.start)
            if any_name or name in _KNOWN:
                self.by_name.setdefault(name, []).append(tag)
            if name in _KNOWN:
                self.known.append(tag)
        self.starts = [tag.start for tag in self.known]

    def runs(self) -> Iterator[tuple[str, list[Element]]]:
        """Yield the runs of two and more sibling elements of each name."""
        for name, tags in self.by_name.items():
            for run in _siblings(self.page.text, tags):
                yield name, run

    def wrapped(self) -> list[tuple[str, Span]]:
        """Return what stands within the innermost wrapper elements, and their names."""
        found = [
            (element.body, name)
            for name, tags in self.by_name.items()
            if name in WRAPPERS
            for element in _elements(tags)
        ]
        for name in TOLD_WRAPPERS & self.by_name.keys() & self._told():
            found += [(element.body, _SEARCHED) for element in _elements(self.by_name[name])]
        found.sort()
        starts = [*(body.start for body, _ in found[1:]), len(self.page.text)]
        return [
            (name, body)
            for (body, name), after in zip(found, starts, strict=False)
            if body.end <= after
        ]

    def _told(self) -> set[str]:
        """Return the elements in which the results of a search stand, as the prompt tells."""
        return {match[1] for match in _TOLD.finditer(self.page.text, 0, _TOLD_CHARS)}

    def within(self, span: Span) -> Sequence[Tag]:
        """Return the known tags within a span."""
        return self.known[bisect_left(self.starts, span.start) : bisect_left(self.starts, span.end)]

    def wrapper_of(self, run: Sequence[Element]) -> str:
        """Return the name of the wrapper that opens right before a run; "" if none does."""
        at = bisect_left(self.starts, run[0].span.start)
        before = self.known[at - 1] if at else None
        if before is None or before.closes or before.name not in _WRAPPING:
            return ""
        gap = self.page.text[before.end : run[0].span.start]
        return before.name if not gap.strip() else ""

    def is_sound(self, name: str, run: Sequence[Element]) -> bool:
        """Return whether no tag around or within a run may have been forged by a block."""
        guarded = DOCUMENT_TAGS | _WRAPPING | {name}
        for element in run:
            if not _is_balanced([t for t in self.within(element.body) if t.name in guarded]):
                return False
        first, last = run[0].span.start, run[-1].span.end
        wrapper = self.wrapper_of(run)
        strays = _strays(self.by_name[name])
        if any(tag.closes and tag.start >= last for tag in strays):
            return False
        before = [tag for tag in strays if tag.start < first]
        return bool(wrapper) or all(not t.closes and self._is_mention(t, first) for t in before)

    def _is_mention(self, tag: Tag, first: int) -> bool:
        """Return whether a tag stands in a sentence on a line before the run."""
        text = self.page.text
        line = text.rfind("\n", 0, tag.start) + 1
        until = text.find("\n", tag.end)
        in_prose = bool(text[line : tag.start].strip()) and -1 < until < first
        return in_prose and not text[text.rfind("\n", 0, first) + 1 : first].strip()

    def is_output(self, span: Span) -> bool:
        """Return whether a tag of a tool's or command's output stands before or within a span."""
        return bisect_left(self.outputs, span.end) > 0


def find_tagged(tags: Tags, mode: str) -> list[Found]:
    """Return the outermost runs, in order; what speaks against one stands in it."""
    page = tags.page
    known = list(tags.runs())
    known.sort(key=lambda item: (item[1][0].span.start, -item[1][-1].span.end))
    outermost: list[tuple[str, list[Element]]] = []
    end = 0
    for name, run in known:
        if run[0].span.start >= end and _is_prose(page, run):
            end = run[-1].span.end
            outermost.append((name, run))
    if len(outermost) > MAX_GROUPS:
        return [too_many("xml", [Piece(e.span, e.body) for e in outermost[0][1]])]
    return [_as_found(tags, name, run, mode) for name, run in outermost]


def _as_found(tags: Tags, name: str, run: Sequence[Element], mode: str) -> Found:
    page = tags.page
    attributes = [_attributes(page.text, element.opening) for element in run]
    pieces, counted = _pieces(run, attributes)
    why = "mode" if mode == "xml" else _why(tags, name, run, attributes)
    against = ""
    if mode != "xml":
        against = _against(tags, name, run, attributes, pieces, counted)
    return Found("xml", pieces, run[-1].span.end, why, against, counted)


def _why(
    tags: Tags, name: str, run: Sequence[Element], attributes: Sequence[dict[str, Span]]
) -> str:
    """Return the rule by which sibling elements are documents; "" if there is none."""
    page, wrapper = tags.page, tags.wrapper_of(run)
    if name in WATCHED_TAGS:
        return ""
    if page.is_found:
        return "search-tool"
    if wrapper in RETRIEVAL_WRAPPERS:
        return "wrapper"
    if page.role == "tool":
        scored = all(SCORE_FIELDS & known.keys() for known in attributes)
        return "scores" if scored and name in DOCUMENT_TAGS else ""
    if name in DOCUMENT_TAGS:
        return "document-tags"
    intro = page.intro(run[0].span.start)
    if intro.sequence:
        return ""
    if name in FOUND_TAGS:
        return ""
    if intro.announced or (name not in CUED_TAGS and (intro.told or page.told)):
        return "cue"
    if wrapper in TITLED_WRAPPERS and not all(map(_is_titled, attributes)):
        return ""
    return "wrapper" if wrapper and name in LOOSE_TAGS | {NUMBERED} else ""


def _is_titled(attributes: dict[str, Span]) -> bool:
    """Return whether an element has a title or an address, and does not count."""
    return bool(_TITLES & attributes.keys()) and not attributes.keys() & set(COUNTING_ATTRIBUTES)


def _against(
    tags: Tags,
    name: str,
    run: Sequence[Element],
    attributes: Sequence[dict[str, Span]],
    pieces: Sequence[Piece],
    counted: bool,
) -> str:
    page, text = tags.page, tags.page.text
    if not tags.is_sound(name, run):
        return "forged"
    if page.role != "tool" and tags.is_output(Span(0, run[-1].span.end)):
        return "command-output"
    if any(SEQUENCE_ATTRIBUTES & known.keys() for known in attributes):
        return "counted"
    shown = [piece.label.of(text) for piece in pieces if piece.label is not None]
    if len(set(shown)) != len(shown):
        return "labels-unsure"
    if counted and shown and not _go_up(shown):
        return "labels-unsure"
    intro = page.intro(run[0].span.start)
    if intro.file and page.role != "tool":
        return "file"
    return "introduced-as-sequence" if intro.sequence else ""


def _go_up(shown: Sequence[str]) -> bool:
    numbers = [int(label) for label in shown if label.isdigit()]
    first = numbers[0] if numbers else 0
    return numbers == list(range(first, first + len(numbers)))


def _pieces(
    run: Sequence[Element], attributes: Sequence[dict[str, Span]]
) -> tuple[tuple[Piece, ...], bool]:
    """Return the blocks of a run, and whether their labels count places."""
    if run[0].opening.name == NUMBERED:  # the number stands in two tags: it goes along
        return tuple(Piece(element.span, element.body) for element in run), False
    shared = set(attributes[0]).intersection(*attributes[1:])
    names = [name for name in COUNTING_ATTRIBUTES if name in shared]
    label = names[0] if names else "id" if "id" in shared else None
    pieces = [
        Piece(element.span, element.body, known[label] if label else None)
        for element, known in zip(run, attributes, strict=True)
    ]
    return tuple(pieces), bool(names)


def _attributes(text: str, opening: Tag) -> dict[str, Span]:
    """Return the attributes of a tag, by name in lower case, with where their values stand."""
    found: dict[str, Span] = {}
    for match in _ATTRIBUTE.finditer(text, opening.start, opening.end - 1):
        group = next(number for number in (2, 3, 4) if match[number] is not None)
        found.setdefault(match[1].lower(), Span(*match.span(group)))
    return found


def _elements(tags: Sequence[Tag]) -> Iterator[Element]:
    """Yield the elements of one name whose opening tag is followed by its closing tag."""
    for opening, closing in itertools.pairwise(tags):
        if not opening.closes and closing.closes and opening.written == closing.written:
            yield Element(opening, closing)


def _strays(tags: Sequence[Tag]) -> list[Tag]:
    """Return the tags of one name that are part of no element."""
    used = {tag for element in _elements(tags) for tag in element}
    return [tag for tag in tags if tag not in used]


def _siblings(text: str, tags: Sequence[Tag]) -> Iterator[list[Element]]:
    run: list[Element] = []
    for element in _elements(tags):
        if run and text[run[-1].span.end : element.span.start].strip():
            if len(run) > 1:
                yield run
            run = []
        run.append(element)
    if len(run) > 1:
        yield run


def _is_balanced(tags: Sequence[Tag]) -> bool:
    """Return whether the tags within a block open and close each other."""
    opened: list[str] = []
    for tag in tags:
        if not tag.closes:
            opened.append(tag.written)
        elif not opened or opened.pop() != tag.written:
            return False
    return not opened


def _is_prose(page: Page, run: Sequence[Element]) -> bool:
    """Return whether no block of a run is empty, in a code fence, or leaves one open."""
    if page.fences.is_inside(run[0].span.start):
        return False
    return all(
        page.fences.are_closed(element.span) and element.body.of(page.text).strip()
        for element in run
    )

"""Blocks under Markdown headings, blocks between separators, memories as bullets, files by path."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import islice

from contextpilot.prompt.extract.endings import asks, movable
from contextpilot.prompt.extract.group import MAX_PIECES, Found, Piece, Span, too_many
from contextpilot.prompt.extract.numbered import MIN_MEAN_CHARS
from contextpilot.prompt.extract.ordered import are_in_order
from contextpilot.prompt.extract.ownership import labels_alternate
from contextpilot.prompt.extract.page import Page
from contextpilot.prompt.extract.records import is_record
from contextpilot.prompt.extract.scan import LinePattern, matches
from contextpilot.prompt.extract.vocabulary import RETRIEVAL_WRAPPERS, WRAPPERS

_HEADING = LinePattern(r"(#{1,6})[ \t]+\S[^\n]*")
_RULE = LinePattern(r"(-{3,}|={3,}|\*{3,}|_{3,}|#{3,})[ \t\r]*$")
_RULES = ("---", "===", "***", "___", "###")
_SETEXT = re.compile(r"(?:\A|\n[ \t]*\n)[^\n]{1,60}[^\s.!?:;,]\n(?:-{3,}|={3,})[ \t\r]*(?=\n)")
"""An underlined heading: a short line alone, without a full stop."""
_MANIFEST = re.compile(r"^(?:apiVersion|kind|---|\w[\w.-]*:[ \t]*[|>&\[{]?[ \t]*$)", re.MULTILINE)
_BULLET = LinePattern(r"([ \t]{0,4})[-*•][ \t]+(?=\S)")
_MEMORY_INTRO = re.compile(
    r"\b(?:memor(?:y|ies)|remember(?:ed)?|facts (?:about|on) (?:the )?user)\b", re.IGNORECASE
)
_MEMORY_WORDS = ("memor", "remember", "facts ", "<facts>")
_FACTS = re.compile(r"<facts>\s*\Z", re.IGNORECASE)
_SINCE = re.compile(r"\([^()\n]{0,24}?(\d{4}-\d\d-\d\d[^()\n]{0,60})\)\W{0,2}\Z")
"""Since when a fact holds, as it ends: `(2024-11-14 - present)`."""
_LISTED_FILE = re.compile(r"^([\w./\-]{0,200}[\w\-]\.\w{1,8})\n---\n", re.MULTILINE)
_ADDED_FILES = re.compile(
    r"\AHere are some READ ONLY files, provided for your reference\.|"
    r"\AI have \*added these files to the chat\*"
)
"""What aider writes before a set of files, whose order is another in each of its processes."""
_INTRO_CHARS = 400
_FENCED_FILE = re.compile(r"^([\w./\-]{0,200}[\w\-]\.\w{1,8})\n(`{3,})\w{0,20}\n", re.MULTILINE)


def find_markdown(page: Page, region: Span, *, closed: bool) -> Found | None:
    """Return the sections of the highest heading level that occurs more than once."""
    text, fences = page.text, page.fences
    headings = [h for h in matches(_HEADING, text, region) if not fences.is_inside(h.start())]
    levels = Counter(len(heading[1]) for heading in headings)
    level = min((level for level, times in levels.items() if times > 1), default=None)
    if level is None or any(len(heading[1]) < level for heading in headings[1:]):
        return None
    marks = [heading.start() for heading in headings if len(heading[1]) == level]
    if len(marks) > MAX_PIECES:
        return too_many("markdown", [Piece(Span(m, m), Span(m, m)) for m in marks])
    pieces = [_trimmed(text, a, b) for a, b in zip(marks, [*marks[1:], region.end], strict=True)]
    moved = movable(text, pieces, region.end, closed=closed)
    if len(moved) < 2 or not all(fences.are_closed(piece.span) for piece in moved):
        return None
    note_at = moved[-1].span.end if len(moved) == len(marks) else len(text)
    return Found("markdown", moved, note_at, "mode")


def find_separated(
    page: Page, region: Span, *, closed: bool, separator: str | None = None
) -> Found | None:
    """Return the blocks between separators: one rule repeated, or the given text.

    Unless the region is closed, what stands before the first and after the last separator is an
    introduction and a question, and stays in place.
    """
    text, fences = page.text, page.fences
    marks = _separators(text, region, separator)
    if not marks:
        return None
    begins = [region.start, *(mark.end for mark in marks)]
    ends = [*(mark.start for mark in marks), region.end]
    spans = list(zip(begins, ends, strict=True))
    if len(spans) > MAX_PIECES:
        return too_many("separator", [Piece(mark, mark) for mark in marks])
    pieces = [_trimmed(text, begin, end) for begin, end in (spans if closed else spans[1:-1])]
    if len(pieces) < 2 or fences.is_inside(pieces[0].span.start):
        return None
    if not all(p.body.of(text) and fences.are_closed(p.span) for p in pieces):
        return None
    note_at = pieces[-1].span.end if closed else len(text)
    return Found("separator", tuple(pieces), note_at, "mode")


def find_ruled(page: Page, region: Span, wrapper: str | None) -> Found | None:
    """Return blocks between rules that a search tool, a wrapper or a cue declares."""
    closed = wrapper is not None or page.role == "tool"
    pieces = _between_rules(page, region, closed=closed)
    if pieces is None:
        return None
    text = page.text
    bodies = [piece.body.of(text) for piece in pieces]
    found = Found("separator", tuple(pieces), pieces[-1].span.end)
    if _is_one_text(text, region, bodies):
        return found._replace(against="document-file")
    if labels_alternate(bodies) or _is_header_of_all(bodies):
        return found._replace(against="labels-unsure")
    if any(body.endswith(":") or len(body) < MIN_MEAN_CHARS // 2 for body in bodies):
        return found
    if sum(map(len, bodies)) < MIN_MEAN_CHARS * len(bodies):
        return found
    intro = page.intro(pieces[0].span.start, region.start)
    if intro.sequence:
        return found._replace(against="introduced-as-sequence")
    return found._replace(why=_why_ruled(page, wrapper, bodies, intro.announced))


def _is_header_of_all(bodies: Sequence[str]) -> bool:
    """Return whether the first block begins with as many values as there are blocks."""
    head, _, rest = bodies[0].partition("\n\n")
    return bool(rest) and any(head.count(sign) + 1 == len(bodies) for sign in ",;|")


def _why_ruled(page: Page, wrapper: str | None, bodies: Sequence[str], announced: bool) -> str:
    if page.is_found:
        return "search-tool"
    if wrapper in RETRIEVAL_WRAPPERS or (wrapper in WRAPPERS and page.role != "tool"):
        return "wrapper"
    if all(is_record(body) for body in bodies):
        return "search-records"
    return "cue" if announced or (page.told and wrapper is None) else ""


def _between_rules(page: Page, region: Span, *, closed: bool) -> list[Piece] | None:
    """Return what stands between rules of one kind; an introduction and a question stay.

    Where the region is open, a rule or the cue must stand before the first block, and a rule after
    the last.
    """
    text, fences = page.text, page.fences
    marks = _separators(text, region, None)
    if not marks or len(marks) > MAX_PIECES:
        return None
    begins = [region.start, *(mark.end for mark in marks)]
    ends = [*(mark.start for mark in marks), region.end]
    pieces = [_trimmed(text, begin, end) for begin, end in zip(begins, ends, strict=True)]
    if not closed:
        first = _without_heading(page, pieces[0])
        is_cued = first is not pieces[0] and not _is_heading(page, first)
        is_cued = is_cued and not asks(first.body.of(text))
        pieces = [first, *pieces[1:-1]] if is_cued else pieces[1:-1]
    while pieces and pieces[-1].span.start == pieces[-1].span.end:
        pieces.pop()
    if len(pieces) > 1 and closed:
        if _announces(page, pieces[0]):
            pieces = pieces[1:]
        pieces = [_without_heading(page, pieces[0]), *pieces[1:]]
    if len(pieces) < 2 or fences.is_inside(pieces[0].span.start):
        return None
    if not all(p.span.start < p.span.end and fences.are_closed(p.span) for p in pieces):
        return None
    return pieces


def _is_heading(page: Page, piece: Piece) -> bool:
    """Return whether what is left of an introduction is no block: nothing, or a heading."""
    body = piece.body.of(page.text)
    return not body or body.endswith(":") or _announces(page, piece)


def _announces(page: Page, piece: Piece) -> bool:
    """Return whether what stands before the first rule announces what comes after it."""
    body = piece.body.of(page.text)
    return len(body) < MIN_MEAN_CHARS and page.intro(piece.span.end, piece.span.start).announced


def _without_heading(page: Page, piece: Piece) -> Piece:
    """Return the first block without a paragraph before it that announces the list."""
    text, blank = page.text, page.text.find("\n\n", *piece.span)
    if blank < 0 or blank - piece.span.start > 3 * MIN_MEAN_CHARS:
        return piece
    heading = text[piece.span.start : blank].rstrip()
    if heading.endswith(":") or page.intro(blank, piece.span.start).announced:
        return _trimmed(text, blank, piece.span.end)
    return piece


def find_bullets(page: Page, region: Span) -> Found | None:
    """Return memories written as bullets under a heading or line that names memories."""
    text = page.text
    low = text.lower()
    if not any(word in low for word in _MEMORY_WORDS):
        return None
    marks = list(islice(matches(_BULLET, text, region), 4 * MAX_PIECES))
    runs: list[list[re.Match[str]]] = []
    for mark in marks:
        near = runs and not text[_line_end(text, runs[-1][-1].end()) : mark.start()].strip()
        if near:
            runs[-1].append(mark)
        else:
            runs.append([mark])
    for run in runs[:64]:
        intro = _paragraph_before(text, run[0].start(), region.start)
        is_memory = _MEMORY_INTRO.search(intro) is not None
        if 1 < len(run) <= MAX_PIECES and (is_memory or _FACTS.search(intro)):
            pieces = _bulleted(text, run)
            since = [_SINCE.search(piece.body.of(text)) for piece in pieces]
            if len(pieces) < 2 or not (is_memory or all(since)):
                continue
            announced = page.intro(run[0].start(), region.start).announced
            why = "cue" if announced or page.is_found else ""
            dates = [match[1] for match in since if match]
            is_timed = 2 * len(dates) > len(pieces) and are_in_order(dates)
            return Found("bullets", pieces, pieces[-1].span.end, why, "times" if is_timed else "")
    return None


def _bulleted(text: str, run: Sequence[re.Match[str]]) -> tuple[Piece, ...]:
    """Return the bullets that are not indented, with those under them; none when unsure."""
    tops = [mark for mark in run if mark[1] == run[0][1]]
    if any(len(mark[1]) < len(run[0][1]) for mark in run):
        return ()
    ends = [*(mark.start() for mark in tops[1:]), _line_end(text, run[-1].end())]
    spans = [_trimmed(text, m.start(), end).span for m, end in zip(tops, ends, strict=True)]
    return tuple(Piece(s, Span(m.end(), s.end)) for m, s in zip(tops, spans, strict=True))


def find_files(page: Page, region: Span) -> Found | None:
    """Return files listed one after another, each by its path: the forms of files-to-prompt."""
    return _listed_files(page, region) or _fenced_files(page, region)


def _listed_files(page: Page, region: Span) -> Found | None:
    """Return files written as `path`, a rule, content, a rule."""
    text = page.text
    if "\n---\n" not in text:
        return None
    marks = list(islice(_LISTED_FILE.finditer(text, *region), MAX_PIECES + 1))
    if not 1 < len(marks) <= MAX_PIECES:
        return None
    pieces = []
    for mark, after in zip(marks, [*(m.start() for m in marks[1:]), region.end], strict=True):
        inside = text[mark.end() : after]
        end = inside.find("\n---\n") if inside.find("\n---\n") >= 0 else inside.rfind("\n---")
        rest = inside[end + 4 :] if end >= 0 else "x"
        if rest.strip() and mark is not marks[-1]:
            return None
        stop = mark.end() + end + 4
        pieces.append(Piece(Span(mark.start(), stop), Span(mark.end(), mark.end() + max(end, 0))))
    why = "files-listed" if page.role != "tool" else ""
    return Found("files", tuple(pieces), pieces[-1].span.end, why)


def _fenced_files(page: Page, region: Span) -> Found | None:
    """Return files written as `path` and a code fence each."""
    text = page.text
    pieces: list[Piece] = []
    files = _FENCED_FILE.finditer(text, *region) if "```" in text else iter(())
    for mark in islice(files, 2 * MAX_PIECES):
        close = text.find(f"\n{mark[2]}", mark.end() - 1, region.end)
        if close < 0 or (pieces and text[pieces[-1].span.end : mark.start()].strip()):
            return None
        if not pieces or mark.start() >= pieces[-1].span.end:
            stop = close + 1 + len(mark[2])
            pieces.append(Piece(Span(mark.start(), stop), Span(mark.end(), close)))
    if not 1 < len(pieces) <= MAX_PIECES:
        return None
    why = _why_fenced(page, region, pieces[0].span.start) if page.role != "tool" else ""
    return Found("files", tuple(pieces), pieces[-1].span.end, why)


def _why_fenced(page: Page, region: Span, start: int) -> str:
    """Return the rule by which the text before fenced files lets them move."""
    is_near = page.role == "user" and start - region.start <= _INTRO_CHARS
    if is_near and _ADDED_FILES.search(page.text[region.start : start]):
        return "files-added"
    intro = page.intro(start, region.start)
    return "files-listed" if intro.announced or intro.empty else ""


def _is_one_text(text: str, region: Span, bodies: Sequence[str]) -> bool:
    """Return whether what stands between rules is one text: Markdown, YAML, front matter."""
    if _SETEXT.search(text, *region) is not None:
        return True
    levels = [len(match[1]) for match in map(_HEADING.match, bodies) if match]
    if levels and (len(levels) < len(bodies) or len(set(levels)) > 1):
        return True
    if all(_MANIFEST.match(body) for body in bodies):
        return True
    return text[region.start : region.start + 4].startswith("---\n") and ":" in bodies[0][:40]


def _separators(text: str, region: Span, separator: str | None) -> list[Span]:
    if separator is not None:
        pattern = re.compile(re.escape(separator))
        marks = islice(pattern.finditer(text, *region), MAX_PIECES + 1)
        return [Span(*mark.span()) for mark in marks]
    if not any(rule in text for rule in _RULES):
        return []
    rules = list(islice(matches(_RULE, text, region), MAX_PIECES + 1))
    if len({rule[1] for rule in rules}) != 1:  # of several kinds it is unsure which separates
        return []
    return [Span(*rule.span()) for rule in rules]


def _paragraph_before(text: str, start: int, begin: int) -> str:
    near = text[max(begin, start - 200) : start].rstrip()
    return near.rsplit("\n\n", 1)[-1]


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _trimmed(text: str, begin: int, end: int) -> Piece:
    """Return a piece without the white space around it, which stays in place."""
    whole = text[begin:end]
    start = begin + len(whole) - len(whole.lstrip())
    span = Span(start, max(start, begin + len(whole.rstrip())))
    return Piece(span, span)

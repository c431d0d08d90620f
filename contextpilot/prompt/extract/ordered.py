"""Whether blocks, looked at themselves, are in a sequence: turns, times, pages, steps, lines."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

from contextpilot.prompt.extract.leaning import lean
from contextpilot.prompt.extract.vocabulary import FIELD_LABELS, SEQUENCE_CHILDREN

_HEAD_CHARS = 240
_END_CHARS = 60
_SPEAKER = re.compile(
    r"[\s>*_\"'(\[]*([A-Z][\w.'’-]{0,24}(?: [A-Z][\w.'’-]{0,24}){0,2})\]?[*_]{0,2}\s?[:：](?=\s)"
)
_CALLED = re.compile(
    r"[\s>*_\"'(\[]*(?:([A-Z][A-Z.'’ ]{1,24}) [—–-]|"
    r"([^\W\d_][\w.'’-]{0,24})\]?[*_]{0,2}[:：])(?=\s)"
)
"""Speakers of chats and scripts: `maja: ...`, `HOST — ...`."""
_SPOKEN = re.compile(
    r"[\W_]{0,3}(?:(?:okay|ok|yeah|yep|sure|right|great|well|oh|alright|exactly|thanks|sorry|"
    r"h+m+|u+[hm]|genau|naja|tja|d'accord|ouais|vale|bueno|certo|então)\b"
    r"(?:,| (?:so|um|uh|we|i|let|and|but|that)\b)|"
    r"that(?:'s| is) (?:fine|right|true|good|great)\b)",
    re.IGNORECASE,
)
"""How people begin who answer each other."""
_DASHED = re.compile(r"\s*[—–]\s?\w")
_LOGGED = re.compile(
    r"\s*[\[<(]?(?:trace|debug|info|notice|warn(?:ing)?|error|critical|fatal|severe)\b"
    r"[\]>)]?[ :\t]",
    re.IGNORECASE,
)
_HUNK = re.compile(r"\s*(?:@@ -\d|diff --git |--- [ab]/)")
_NO_SPEAKERS = FIELD_LABELS | {"article", "page"}
_CLOCK = re.compile(r"[\s>*\[(<\-–•]*(?:\d{1,2}:)?\d{1,2}:\d{2}(?:[.,]\d{1,3})?(?![\d:])")
_MONTHS = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_DATE = re.compile(
    rf"[\s>*\[(#\-–•]*(?:(?:date|on|sent|created|updated|posted)[:\s]+)?"
    rf"((?:1\d|20)\d\d(?=[ \t]?(?:[:–—,)\]]|- ))|"
    rf"(?:19|20)\d\d[-/.]\d{{1,2}}(?:[-/.]\d{{1,2}})?(?:[T ]\d\d:\d\d(?::\d\d)?)?|"
    rf"\d{{1,2}}[./]\d{{1,2}}[./](?:19|20)?\d\d|"
    rf"(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,? |(?:\d{{1,2}}\.? )?{_MONTHS}\.? \d{{1,2}})",
    re.IGNORECASE,
)
_MAIL = re.compile(
    r"^[ \t>*]*(?:from|to|sent|subject|date|von|an|gesendet|betreff|de|objet)[*]*:",
    re.IGNORECASE | re.MULTILINE,
)
_FROM = re.compile(
    r"^[ \t>*]*(?:from|von|sent|author|posted by|by|commented)[*]*:", re.IGNORECASE | re.MULTILINE
)
_COUNTED = re.compile(
    r"[\s>*_#\[(\-]*(?:(page|chapter|section|part|step|article|art\.|clause|paragraph|turn|slide|"
    r"scene|act|day|"
    r"lesson|verse|stage|phase|task|question|exercise|episode|week|frame|segment|utterance|seite|"
    r"kapitel|artikel|"
    r"abschnitt|schritt|étape|chapitre|paso|capítulo|página|passo|artículo|article|rule|item|"
    r"recital|appendix|version|v)"
    r"[ \t.]{0,3}|§{1,2} ?|第)\s*#?"
    r"(\d{1,4}(?:\.\d{1,4}){0,3}|[ivxlc]{1,6}\b|[a-z]\b|[一二三四五六七八九十]+)(?![\w%])",
    re.IGNORECASE,
)
_OWN_NUMBER = re.compile(r"[\s>*_#]*(\d{1,3})[.)] ")
_CHAPTERED = re.compile(r"[\s>*_#]*(\d{1,3}(?:\.\d{1,3}){1,3})\.?[ \t]")
_ELEMENT = re.compile(
    r"\s*(?:\*?\[?\d*\]?\s*)<(?:a|button|input|div|span|select|option|textarea|li|img|label|svg|"
    r"td|tr|form|nav|h\d)\b",
    re.IGNORECASE,
)
_ROLE_ELEMENT = re.compile(
    r"\s*(?:link|button|textbox|combobox|checkbox|menuitem|heading|tab|radio|StaticText)\b[ '\"]",
    re.IGNORECASE,
)
_LISTING = re.compile(r"[ \t]*\d{1,6}(?:\t|→| ?[|│] ?|:[ \t]{0,1}\S| {2,}\S)")
_TODO = re.compile(r"[ \t*\-]*\[[ xX✓]\]|[ \t*\-]*(?:TODO|DONE|WIP|☐|☑|✅|✔)")
_CHILD = re.compile(r"<([A-Za-z_]\w{0,30})[\s>]")
_CONTINUED = re.compile(
    r"[\s>*_#]*(?:[(\[…][\s.]*(?:continued|cont'?d?\.?[)\]]|fortsetzung|suite\b|continuación)|"
    r"(?:continued|continuing) from\b)",
    re.IGNORECASE,
)
_CONTINUES = re.compile(
    r"(?:to be continued|continued (?:on|in|below|overleaf)[^\n]{0,20}|\(continued\))\W*$",
    re.IGNORECASE,
)
_ENDS = (".", "!", "?", "…", '"', "”", "»", ":", ")")
_SALUTATION = re.compile(
    r"(?:dear|hi|hello|liebe[rs]?|sehr geehrte[rs]?|chère?|estimad[oa]|querid[oa]|car[oa]|gentile|"
    r"beste|kära?|kjære|kære|drog[ai]|дорог\w+|уважаем\w+)\b[^\n,]{1,40},",
    re.IGNORECASE,
)
_TITLE_NUMBER = re.compile(r"(\d{1,6})")
_SEPARATORS = re.compile(r"[-/.]")


def sequence_reason(bodies: Sequence[str]) -> str:
    """Return the rule against moving blocks that are in a sequence; "" if none shows."""
    heads = [body[:_HEAD_CHARS] for body in bodies]
    lines = [head.lstrip("\n") for head in heads]
    if _most(_ELEMENT, lines) or _most(_ROLE_ELEMENT, lines):
        return "elements"
    if _most(_TODO, lines) or _most(_HUNK, lines) or _are_listings(bodies):
        return "listing"
    if _are_turns(lines) or _most(_DASHED, lines) or _most(_SPOKEN, lines):
        return "speakers"
    if _most(_LOGGED, lines) or _are_timed(lines) or _are_mails(heads):
        return "times"
    if are_counted(lines) or _children(heads):
        return "counted"
    if any(map(_CONTINUED.match, lines)) or any(_CONTINUES.search(b[-_END_CHARS:]) for b in bodies):
        return "continued"
    return lean(bodies, lines) or ("continued" if _are_one_text(bodies) else "")


def _are_one_text(bodies: Sequence[str]) -> bool:
    """Return whether every block but the first goes on in the sentence of the one before."""
    texts = [body.strip() for body in bodies]
    if not texts[0][:1].isupper() or not texts[-1].endswith(_ENDS):
        return False
    return all(b[:1].islower() and not a.endswith(_ENDS) for a, b in itertools.pairwise(texts))


def are_numbered_titles(titles: Sequence[str]) -> bool:
    """Return whether titles differ by a number alone that goes up: `part 1`, `part 2`."""
    split = [_TITLE_NUMBER.split(title, maxsplit=1) for title in titles]
    if any(len(parts) != 3 for parts in split):
        return are_counted(titles)
    numbers = [int(parts[1]) for parts in split]
    return len({parts[0] for parts in split}) == 1 and numbers == sorted(set(numbers))


def count_up(names: Sequence[str]) -> bool:
    """Return whether names are the same up to a number that goes up by one: `chapter-1.txt`."""
    split = [_TITLE_NUMBER.split(name, maxsplit=1) for name in names]
    if any(len(parts) != 3 for parts in split) or len({parts[0] for parts in split}) > 1:
        return False
    first = int(split[0][1])
    return [int(parts[1]) for parts in split] == list(range(first, first + len(split)))


def are_in_order(values: Sequence[Any]) -> bool:
    """Return whether values go up, or down."""
    return list(values) in (sorted(values), sorted(values, reverse=True))


def _most(pattern: re.Pattern[str], texts: Sequence[str]) -> bool:
    return 2 * sum(pattern.match(text) is not None for text in texts) > len(texts)


def _are_listings(bodies: Sequence[str]) -> bool:
    """Return whether most lines of the blocks begin with a line number."""
    lines = [
        line for body in bodies for line in body[: 4 * _HEAD_CHARS].split("\n") if line.strip()
    ]
    return len(lines) > len(bodies) and _most(_LISTING, lines)


def _are_turns(lines: Sequence[str]) -> bool:
    """Return whether most blocks begin with the name of a speaker, and names come again."""
    names = [match[1] for match in map(_SPEAKER.match, lines) if match]
    named = [name for name in names if not _is_field(name)]
    if 2 * len(named) > len(lines) and len(set(named)) < len(named):
        return True
    called = [(match[1] or match[2]).lower() for match in map(_CALLED.match, lines) if match]
    people = set(called)
    return (
        2 * len(called) > len(lines)
        and 1 < len(people) < len(called)
        and not (people & _NO_SPEAKERS)
    )


def _is_field(name: str) -> bool:
    """Return whether it names a field and nobody: `Title`, `Article Title`."""
    return name.lower() in _NO_SPEAKERS or name.lower().split()[-1] in _NO_SPEAKERS


def _are_timed(lines: Sequence[str]) -> bool:
    """Return whether blocks begin with times: of the clock, or dates in order."""
    clocks = [_clocked(match) for match in map(_CLOCK.match, lines) if match]
    if 2 * len(clocks) > len(lines) and clocks in (sorted(clocks), sorted(clocks, reverse=True)):
        return True
    found = [match[1] for match in map(_DATE.match, lines) if match]
    if 2 * len(found) <= len(lines):
        return False
    dates = [_dated(date) for date in found]
    return dates in (sorted(dates), sorted(dates, reverse=True))


def _clocked(match: re.Match[str]) -> tuple[int, ...]:
    """Return a time of the clock as numbers to compare; afternoons come after mornings."""
    parts = [int(part) for part in re.findall(r"\d+", match[0])]
    if match.string[match.end() : match.end() + 3].strip().lower().startswith("pm"):
        parts[0] += 12 * (parts[0] < 12)
    return (len(parts), *parts)


def _dated(date: str) -> tuple[int, ...] | str:
    parts = [part for part in _SEPARATORS.split(date[:10]) if part.isdigit()]
    if len(parts) == 3 and len(parts[0]) < 4:
        parts.reverse()
    return tuple(map(int, parts)) if len(parts) > 1 or len(date) == len("1999") else ""


def _are_mails(heads: Sequence[str]) -> bool:
    if _most(_SALUTATION, [head.lstrip() for head in heads]):
        return True
    mails = [len(_MAIL.findall(head)) > 1 and _FROM.search(head) is not None for head in heads]
    return 2 * sum(mails) > len(heads)


def are_counted(lines: Sequence[str]) -> bool:
    """Return whether blocks begin as pages, steps or clauses do, with numbers that go up."""
    for pattern in (_COUNTED, _OWN_NUMBER, _CHAPTERED):
        numbers = [match[match.lastindex or 0] for match in map(pattern.match, lines) if match]
        if 2 * len(numbers) > len(lines) and len(numbers) > 1:
            values = [_number(number) for number in numbers]
            if all(a < b for a, b in itertools.pairwise(values)):
                return True
    return False


def _number(text: str) -> tuple[int, ...]:
    parts = text.split(".")
    if all(part.isdigit() for part in parts):
        return tuple(map(int, parts))
    roman = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}
    if len(text) > 1 or text.lower() in roman:
        values = [roman.get(letter, 0) for letter in text.lower()]
        if all(values):
            signed = zip(values, [*values[1:], 0], strict=True)
            return (sum(-a if a < b else a for a, b in signed),)
    han = "一二三四五六七八九十"
    return (han.index(text[0]) + 1,) if text[0] in han else (ord(text[0].lower()),)


def _children(heads: Sequence[str]) -> bool:
    """Return whether each block begins with an element that tells its place."""
    return all(
        any(name.lower() in SEQUENCE_CHILDREN for name in _CHILD.findall(head)) for head in heads
    )

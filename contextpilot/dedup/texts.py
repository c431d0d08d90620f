"""What of one text may be matched, as zones of lines; and how its lines are written back.

A plain text is lines between "\n" (a "\r" belongs to its line). Of a JSON text only the string
values count, each on its own, so that the result parses to the same structure; JSON Lines too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from .numbering import MIN_LISTING, listings
from .quotes import LENGTHS
from .references import is_reference, looks_like_ours

_STRING = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"(\s*:)?')
_ESCAPE = re.compile(r"\\(.)")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LEAST_SHOWN = LENGTHS[0]
_LABEL = re.compile(r"\[\d+\] ")


class Zone(NamedTuple):
    """Consecutive lines of a text within which a run may lie.

    `offset` is where the first line begins in the text, in characters; `lines` are the lines as
    they stand there, joined by `separator`; `keys` are the lines as compared: JSON escapes decoded,
    line numbers gone. `first` counts the lines before the zone in its text or JSON string, and
    `lead` is what of the first line stands before the zone; the whole has `of` lines. Of a zone
    that is `whole`, only all lines together may be replaced.
    """

    offset: int
    first: int
    lines: list[str]
    keys: list[str]
    separator: str
    of: int
    lead: str = ""
    whole: bool = False

    @property
    def is_json(self) -> bool:
        """Whether it is a string inside JSON."""
        return self.separator != "\n"

    def line_starts(self) -> list[int]:
        """Where each line would begin in the text, and one behind the last, without separators."""
        return list(accumulate(map(len, self.lines), initial=self.offset))

    def shown(self, line: int) -> str:
        """A line as a reader sees it: with its number, JSON escapes decoded."""
        text = self.lines[line] if line else self.lead + self.lines[line]
        if not self.is_json or "\\" not in text:
            return text
        decoded: str = json.loads(f'"{text}"')
        return decoded

    def number(self, line: int) -> int | None:
        """The number that a listing gives a line; None outside listings."""
        width = len(self.shown(line)) - len(self.keys[line])
        digits = re.search(r"\d+", self.shown(line)[:width]) if width and not self.lead else None
        return int(digits[0]) if digits else None

    def encode(self, reference: str, replaced: str) -> str:
        """`reference` as it is written in place of the line `replaced`."""
        if not self.is_json:
            return reference
        as_ascii = replaced.isascii() or _SURROGATE.search(reference) is not None
        return json.dumps(reference, ensure_ascii=as_ascii)[1:-1]


def zones_of(text: str, min_chars: int) -> list[Zone]:
    """The zones of a result or document that could hold a run of `min_chars` characters, in order.

    None where something reads like a reference of ours: whoever follows one that points there
    might be led on.
    """
    if len(text) < min_chars or looks_like_ours(text):
        return []
    documents = _json_documents(text)
    if documents is None:
        lines = text.split("\n")
        return list(_listing_pieces(Zone(0, 0, lines, lines, "\n", len(lines))))
    if not documents:
        return []
    return [zone for zone in _string_zones(text, min_chars) if zone.lines]


def spoken_zones(text: str, min_chars: int) -> list[Zone]:
    """The zones of what somebody said, without the labels `[1] ` and what reads like ours."""
    if len(text) < min_chars:
        return []
    lines = text.split("\n")
    keys = [_LABEL.sub("", line, count=1) if _LABEL.match(line) else line for line in lines]
    zone = Zone(0, 0, lines, keys, "\n", len(lines))
    return list(_without_references(zone)) if looks_like_ours(text) else [zone]


def block_zones(text: str, spans: Sequence[tuple[int, int]], min_chars: int) -> list[Zone]:
    """The zones of blocks at `spans` of a text, each to be replaced as a whole or not at all."""
    zones: list[Zone] = []
    first = counted = 0
    for start, end in sorted(spans):
        body = text[start:end]
        start += len(body) - len(body.lstrip("\n"))
        body = body.strip("\n")
        if len(body) < min_chars or looks_like_ours(body):
            continue
        lines = body.split("\n")
        lead = text[text.rfind("\n", 0, start) + 1 : start]
        first, counted = first + text.count("\n", counted, start), start
        zones.append(Zone(start, first, lines, lines, "\n", len(lines), lead, True))
    return zones


def shown_lines(text: str, without: Container[int] = ()) -> Iterator[str]:
    """The lines of a text as a reader may see them: of JSON also those within longer strings.

    `without` are the offsets of strings to pass over.
    """
    yield from text.split("\n")
    if may_be_json(text):
        for match in _STRING.finditer(text):
            begin, end = match.span(1)
            if end - begin >= _LEAST_SHOWN and begin not in without:
                yield from _decoded(match[1]).split("\n")


def may_be_json(text: str) -> bool:
    """Whether a text begins as JSON with strings does."""
    return text.lstrip()[:1] in ("{", "[", '"')


def _decoded(raw: str) -> str:
    if "\\" not in raw:
        return raw
    try:
        return str(json.loads(f'"{raw}"', strict=False))
    except ValueError:
        return raw


def _json_documents(text: str) -> bool | None:
    """True if `text` is JSON or JSON Lines, None if it is not, False if it is too deep to read."""
    if not may_be_json(text):
        return None
    try:
        _parse(text)
    except ValueError:
        return _json_lines(text)
    except RecursionError:
        return False
    return True


def _json_lines(text: str) -> bool | None:
    lines = [line for line in text.split("\n") if line.strip()]
    try:
        for line in lines:
            _parse(line)
    except ValueError:
        return None
    except RecursionError:
        return False
    return True


def _parse(text: str) -> None:
    # `float` reads integers too, and knows no limit on digits.
    json.loads(text, parse_int=float)


def _string_zones(text: str, min_chars: int) -> Iterator[Zone]:
    for match in _STRING.finditer(text):
        begin, end = match.span(1)
        if match[2] is None and end - begin >= min_chars:
            yield from _value_zones(begin, match[1])


def _value_zones(offset: int, raw: str) -> Iterator[Zone]:
    if "\\" not in raw:  # one line
        yield Zone(offset, 0, [raw], [raw], "\\n", 1)
        return
    value: str = json.loads(f'"{raw}"')
    keys = value.split("\n")
    lines = _raw_lines(raw)
    # A newline written as \u000a is in the value, but not among the separators.
    if len(lines) == len(keys):
        yield from _listing_pieces(Zone(offset, 0, lines, keys, "\\n", len(lines)))


def _raw_lines(raw: str) -> list[str]:
    if "\\\\" not in raw:
        return raw.split("\\n")
    lines, begin = [], 0
    for escape in _ESCAPE.finditer(raw):
        if escape[1] == "n":
            lines.append(raw[begin : escape.start()])
            begin = escape.end()
    return [*lines, raw[begin:]]


def _listing_pieces(zone: Zone) -> Iterator[Zone]:
    """Parted where a numbered listing begins or ends.

    Within a listing the first number tells all the others; across its border it would not.
    """
    if len(zone.keys) < MIN_LISTING:
        yield zone
        return
    cursor = _Cursor(zone)
    for listing in listings(zone.keys):
        if listing.start > cursor.line:
            yield cursor.take(listing.start)
        yield cursor.take(listing.start + len(listing.bodies))._replace(keys=listing.bodies)
    if cursor.line == 0:
        yield zone
    elif cursor.line < len(zone.lines):
        yield cursor.take(len(zone.lines))


def _without_references(zone: Zone) -> Iterator[Zone]:
    cursor = _Cursor(zone)
    for at, line in enumerate(zone.keys):
        if is_reference(line):
            if at > cursor.line:
                yield cursor.take(at)
            cursor.take(at + 1)
    if cursor.line < len(zone.lines):
        yield cursor.take(len(zone.lines))


class _Cursor:
    """Cuts a zone into consecutive ones."""

    def __init__(self, zone: Zone) -> None:
        self.line = 0
        self._zone = zone
        self._offset = zone.offset

    def take(self, end: int) -> Zone:
        """The zone from the current line up to `end`."""
        zone, start = self._zone, self.line
        lines = zone.lines[start:end]
        piece = zone._replace(
            offset=self._offset,
            first=zone.first + start,
            lines=lines,
            keys=zone.keys[start:end],
        )
        self._offset += sum(map(len, lines)) + len(lines) * len(zone.separator)
        self.line = end
        return piece

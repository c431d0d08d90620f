"""What of one text may be matched, as zones of lines; and how its lines are written back.

A plain text is lines between "\\n" (a "\\r" belongs to its line). Of a JSON text only the string
values count, each on its own, so that the result parses to the same structure; JSON Lines too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

from .numbering import listings
from .references import is_reference, may_hold_references

_STRING = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"(\s*:)?')
_ESCAPE = re.compile(r"\\(.)")
_SURROGATE = re.compile("[\ud800-\udfff]")


class Zone(NamedTuple):
    """Consecutive lines of a text within which a run may lie.

    `offset` is where the first line begins in the text, in characters; `lines` are the lines as
    they stand there, joined by `separator`; `keys` are the lines as compared: JSON escapes decoded,
    line numbers gone. `first` counts the lines before the zone in its text or JSON string.
    """

    offset: int
    first: int
    lines: list[str]
    keys: list[str]
    separator: str

    def line_starts(self) -> list[int]:
        """Where each line would begin in the text, and one behind the last, without separators."""
        return list(accumulate(map(len, self.lines), initial=self.offset))

    def shown(self, line: int) -> str:
        """A line as a reader sees it: with its number, JSON escapes decoded."""
        text = self.lines[line]
        if self.separator == "\n" or "\\" not in text:
            return text
        decoded: str = json.loads(f'"{text}"')
        return decoded

    def encode(self, reference: str, replaced: str) -> str:
        """`reference` as it is written in place of the line `replaced`."""
        if self.separator == "\n":
            return reference
        as_ascii = replaced.isascii() or _SURROGATE.search(reference) is not None
        return json.dumps(reference, ensure_ascii=as_ascii)[1:-1]


def zones_of(text: str, min_chars: int) -> list[Zone]:
    """The zones of `text` that could hold a run of `min_chars` characters, in order."""
    if len(text) < min_chars:
        return []
    documents = _json_documents(text)
    if documents is None:
        lines = text.split("\n")
        return list(_split_zone(Zone(0, 0, lines, lines, "\n"), may_hold_references(text)))
    if not documents:
        return []
    return [zone for zone in _string_zones(text, min_chars) if zone.lines]


def _json_documents(text: str) -> bool | None:
    """True if `text` is JSON or JSON Lines, None if it is not, False if it is too deep to read."""
    if text.lstrip()[:1] not in ("{", "[", '"'):
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
    value: str = json.loads(f'"{raw}"') if "\\" in raw else raw
    keys = value.split("\n")
    lines = _raw_lines(raw)
    # A newline written as \u000a is in the value, but not among the separators.
    if len(lines) == len(keys):
        yield from _split_zone(Zone(offset, 0, lines, keys, "\\n"), may_hold_references(value))


def _raw_lines(raw: str) -> list[str]:
    if "\\\\" not in raw:
        return raw.split("\\n")
    lines, begin = [], 0
    for escape in _ESCAPE.finditer(raw):
        if escape[1] == "n":
            lines.append(raw[begin : escape.start()])
            begin = escape.end()
    return [*lines, raw[begin:]]


def _split_zone(zone: Zone, has_references: bool) -> Iterator[Zone]:
    """Parted where a numbered listing begins or ends, and around references of an earlier pass.

    Within a listing the quoted first line tells all the numbers; across its border it would not.
    """
    pieces = _listing_pieces(zone)
    if has_references:
        pieces = (part for piece in pieces for part in _without_references(piece))
    return pieces


def _listing_pieces(zone: Zone) -> Iterator[Zone]:
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
        piece = Zone(self._offset, zone.first + start, lines, zone.keys[start:end], zone.separator)
        self._offset += sum(map(len, lines)) + len(lines) * len(zone.separator)
        self.line = end
        return piece

"""Line numbers as file readers of agents print them: `  12<TAB>`, `12: `, `12|`, `12→`, `L12:`, ...

A number alone proves nothing ("2020: revenue rose"), so only a listing counts: at least
`MIN_LISTING` neighbouring lines whose numbers rise by one, all with the same sign behind them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

MIN_LISTING = 3

_NUMBERED = re.compile(r"[ \t]*L?(\d{1,9})(\t|→| ?\||:|-)( *)", re.ASCII)


class Listing(NamedTuple):
    """Lines `start .. start + len(bodies)` are numbered; `bodies` are they without the numbers."""

    start: int
    bodies: list[str]


def listings(lines: Sequence[str]) -> Iterator[Listing]:
    """The numbered listings among `lines`, in order. O(total length of `lines`)."""
    next_line = 0
    # A listing cannot slip between probes that are no further apart than its least length.
    first, numbered = MIN_LISTING - 1, _NUMBERED.match
    if not any(map(numbered, set(lines[first::MIN_LISTING]))):
        return
    probes = [at for at, line in enumerate(lines[first::MIN_LISTING]) if numbered(line)]
    for probe in (first + at * MIN_LISTING for at in probes):
        if probe < next_line:
            continue
        start, matches = _stretch(lines, probe, next_line)
        next_line = start + len(matches)
        if len(matches) >= MIN_LISTING:
            yield Listing(start, _bodies(lines, start, matches))


def _stretch(lines: Sequence[str], probe: int, lowest: int) -> tuple[int, list[re.Match[str]]]:
    """The lines around `probe`, from `lowest` on, that continue its numbering."""
    middle = _NUMBERED.match(lines[probe])
    assert middle is not None
    before: list[re.Match[str]] = []
    while (at := probe - len(before) - 1) >= lowest:
        match = _NUMBERED.match(lines[at])
        if match is None or not _follows(match, before[-1] if before else middle):
            break
        before.append(match)
    found = [*reversed(before), middle]
    while (at := probe + len(found) - len(before)) < len(lines):
        match = _NUMBERED.match(lines[at])
        if match is None or not _follows(found[-1], match):
            break
        found.append(match)
    return probe - len(before), found


def _follows(first: re.Match[str], second: re.Match[str]) -> bool:
    return int(second[1]) == int(first[1]) + 1 and second[2] == first[2]


def _bodies(lines: Sequence[str], start: int, matches: list[re.Match[str]]) -> list[str]:
    gap = _gap(matches)
    numbered = lines[start : start + len(matches)]
    return [
        line[match.end(2) + gap if match[3] else match.end(2) :]
        for line, match in zip(numbered, matches, strict=True)
    ]


def _gap(matches: list[re.Match[str]]) -> int:
    """1 if a space behind the sign belongs to the number ("12: x"), 0 if to the line ("12:x").

    Code is indented by even numbers of spaces, so an odd least indentation has one too many.
    """
    if matches[0][2] in "\t→":
        return 0
    filled = [len(match[3]) for match in matches if match.end() < len(match.string.rstrip())]
    return min(filled, default=0) % 2

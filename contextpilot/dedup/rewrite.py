"""From the texts of a prompt to shorter ones: zones, runs, references."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, groupby
from typing import NamedTuple

from .lines import Run, drop_repeats
from .references import write_reference
from .report import Origin, Replacement
from .shapes import Path, Slot
from .texts import Zone, zones_of


class _Accepted(NamedTuple):
    """A run that is replaced, from line `begin` of `zone`: characters `start .. end`."""

    slot: Slot
    zone: Zone
    run: Run
    begin: int
    start: int
    end: int
    reference: str


class Rewriter:
    """Replaces repeated runs in `slots`; use once.

    All zones form one stream of lines: zone k belongs to slot `owners[k]`, ends before line
    `ends[k]`; `line_starts[k]` are the beginnings of its lines, once they are needed.
    """

    def __init__(self, slots: Sequence[Slot], min_chars: int) -> None:
        self._slots = slots
        self._min_chars = min_chars
        self._zones: list[Zone] = []
        self._owners: list[int] = []
        for owner, slot in enumerate(slots):
            zones = zones_of(slot.text, min_chars)
            self._zones += zones
            self._owners += [owner] * len(zones)
        self._ends = list(accumulate(len(zone.lines) for zone in self._zones))
        self._line_starts: dict[int, list[int]] = {}
        self._accepted: list[_Accepted] = []
        self._introduced: set[tuple[Path, int]] = set()

    def rewrite(self) -> tuple[dict[Path, str], list[Replacement]]:
        """The changed texts by path, and all replacements in prompt order."""
        drop_repeats(
            list(chain.from_iterable(zone.keys for zone in self._zones)),
            self._ends,
            self._min_chars,
            self._accept,
            read_only=[self._slots[owner].read_only for owner in self._owners],
        )
        texts: dict[Path, str] = {}
        replacements: list[Replacement] = []
        for _, group in groupby(self._accepted, lambda item: item.slot.path):
            accepted = list(group)
            found = list(self._replacements(accepted))
            slot = accepted[0].slot
            texts[slot.path] = _shortened(slot.text, found)
            replacements += found
        return texts, replacements

    def _accept(self, run: Run) -> bool:
        index, begin = self._locate(run.start)
        slot, zone = self._slots[self._owners[index]], self._zones[index]
        origin = self._slots[self._owners[self._locate(run.source)[0]]]
        start, end = self._span(index, begin, begin + run.lines * run.times)
        introduction = (slot.path, origin.ordinal)
        terse = introduction in self._introduced
        reference = write_reference(
            lines=run.lines,
            times=run.times,
            place=_place(origin, slot, terse),
            first_line=zone.shown(begin),
            chars=end - start,
            terse=terse,
        )
        reference = zone.encode(reference, zone.lines[begin])
        if len(reference) >= end - start:
            return False
        self._introduced.add(introduction)
        self._accepted.append(_Accepted(slot, zone, run, begin, start, end, reference))
        return True

    def _locate(self, line: int) -> tuple[int, int]:
        """The zone of a line of the stream, and the line's place within it."""
        index = bisect_right(self._ends, line)
        return index, line - self._ends[index] + len(self._zones[index].lines)

    def _span(self, index: int, begin: int, end: int) -> tuple[int, int]:
        """From the first character of line `begin` to the last of the line before `end`."""
        zone = self._zones[index]
        starts = self._line_starts.get(index)
        if starts is None:
            starts = self._line_starts[index] = zone.line_starts()
        width = len(zone.separator)
        return starts[begin] + begin * width, starts[end] + (end - 1) * width

    def _replacements(self, accepted: Iterable[_Accepted]) -> Iterator[Replacement]:
        """The replacements of one text; `start` allows for the references before it."""
        shift = 0
        for slot, zone, run, begin, start, end, reference in accepted:
            yield Replacement(
                path=slot.path,
                line=zone.first + begin + 1,
                lines=run.lines,
                times=run.times,
                origin=self._origin(run.source),
                start=start - shift,
                reference=reference,
                original=slot.text[start:end],
            )
            shift += end - start - len(reference)

    def _origin(self, line: int) -> Origin:
        index, at = self._locate(line)
        slot = self._slots[self._owners[index]]
        return Origin(slot.path, self._zones[index].first + at + 1, slot.kind, slot.ordinal)


def _place(origin: Slot, slot: Slot, terse: bool) -> str:
    if origin.ordinal == slot.ordinal:
        return "above"
    return f"#{origin.ordinal}" if terse else f"{origin.kind} #{origin.ordinal}"


def _shortened(text: str, replacements: Sequence[Replacement]) -> str:
    pieces, position, written = [], 0, 0
    for item in replacements:
        kept = item.start - written
        pieces += [text[position : position + kept], item.reference]
        position += kept + len(item.original)
        written = item.start + len(item.reference)
    return "".join([*pieces, text[position:]])

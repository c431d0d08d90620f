"""The texts of a prompt as one stream of lines, and where a run of it stands in them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate, chain
from typing import NamedTuple

from .lines import Extent, Run
from .shapes import Path, Slot
from .texts import Zone, block_zones, shown_lines, spoken_zones, zones_of
from .trust import sources_for

Spans = Sequence[tuple[int, int]]


class Copy(NamedTuple):
    """Lines `begin .. end` of zone `number` stand in `source`, the same lines plus `shift`.

    `slot` and `owner` are the texts of both.
    """

    number: int
    zone: Zone
    begin: int
    end: int
    source_number: int
    source: Zone
    shift: int
    slot: Slot
    owner: Slot

    @property
    def place(self) -> str:
        """The name of the text in which the copy stands."""
        return f"{self.owner.kind} #{self.owner.ordinal}"

    @property
    def first_line(self) -> int:
        """The number of its first line in that text, from 1 on."""
        return self.source.first + self.begin + self.shift + 1

    @property
    def listed_number(self) -> int | None:
        """The number that a listing gives its first line, where it is not that of the copy."""
        number = self.zone.number(self.begin)
        return None if number == self.source.number(self.begin + self.shift) else number


class Stream:
    """The zones of all texts.

    Attributes:
        zones: in order; those of text k are `zones[of_slot[k]:of_slot[k + 1]]`.
        ends: before which line of the stream each zone ends.
    """

    def __init__(self, slots: Sequence[Slot], min_chars: int, blocks: Mapping[Path, Spans]) -> None:
        self._slots = slots
        found = [_zones(slot, min_chars, blocks) for slot in slots]
        self.zones: list[Zone] = list(chain.from_iterable(found))
        self.of_slot = [0, *accumulate(map(len, found))]
        self.ends = list(accumulate(len(zone.lines) for zone in self.zones))
        self._num_strings = [sum(zone.first == 0 for zone in zones) for zones in found]
        self._line_starts: dict[int, list[int]] = {}

    def keys(self) -> list[str]:
        """The lines as compared."""
        return list(chain.from_iterable(zone.keys for zone in self.zones))

    def extents(self) -> list[Extent]:
        """What may be done with each zone."""
        extents = []
        for number, slot in enumerate(self._slots):
            for zone in self.zones_of(number):
                can_change = slot.can_change or self.zones[zone].whole
                names = sources_for(slot.trust) if can_change else None
                extents.append(Extent(self.ends[zone], slot.unit, slot.trust, names))
        return extents

    def zones_of(self, slot: int) -> range:
        """The numbers of a text's zones."""
        return range(self.of_slot[slot], self.of_slot[slot + 1])

    def copy(self, run: Run) -> Copy:
        """Where a run stands, and where it stood before."""
        before = self._begin(run.zone)
        begin = run.start - before
        return Copy(
            number=run.zone,
            zone=self.zones[run.zone],
            begin=begin,
            end=run.end - before,
            source_number=run.source_zone,
            source=self.zones[run.source_zone],
            shift=run.source - self._begin(run.source_zone) - begin,
            slot=self._owner(run.zone),
            owner=self._owner(run.source_zone),
        )

    def lines_of(self, copy: Copy) -> tuple[int, int]:
        """The lines of the stream that a run holds."""
        begin = self._begin(copy.number)
        return begin + copy.begin, begin + copy.end

    def chars_of(self, copy: Copy) -> tuple[int, int]:
        """From the first character of a run to the last, in its text."""
        starts = self._line_starts.get(copy.number)
        if starts is None:
            starts = self._line_starts[copy.number] = copy.zone.line_starts()
        width = len(copy.zone.separator)
        if copy.begin >= copy.end:
            return 0, 0
        last = starts[copy.end] + (copy.end - 1) * width
        return starts[copy.begin] + copy.begin * width, last

    def num_chars(self, copy: Copy) -> int:
        """How many characters a run has in its text."""
        if copy.begin >= copy.end:
            return 0
        breaks = (copy.end - copy.begin - 1) * len(copy.zone.separator)
        return sum(map(len, copy.zone.lines[copy.begin : copy.end])) + breaks

    def can_be_counted(self, copy: Copy) -> bool:
        """Whether a reader can count lines where the copy stands: in plain text, or in JSON with
        one string of several lines."""
        if not copy.owner.is_alone:
            return False
        slot = bisect_right(self.of_slot, copy.source_number) - 1
        return not copy.source.is_json or self._num_strings[slot] == 1

    def shown(self, slot: int) -> tuple[list[str], dict[int, int]]:
        """The lines of a text that its reader sees, and where those of its zones begin among them.

        Those of JSON that lie outside all zones come first, though they stand between them: more
        is then taken for quoted twice than is.
        """
        text, zones = self._slots[slot].text, self.zones_of(slot)
        first = self.zones[zones[0]]
        if not first.is_json and len(first.lines) == first.of and not first.whole:
            return first.lines, {zones[0]: 0}
        if not any(self.zones[zone].is_json for zone in zones):
            return text.split("\n"), {zone: self.zones[zone].first for zone in zones}
        lines = list(shown_lines(text, {self.zones[zone].offset for zone in zones}))
        places = {}
        for zone in zones:
            places[zone] = len(lines)
            lines += map(self.zones[zone].shown, range(len(self.zones[zone].lines)))
        return lines, places

    def _begin(self, zone: int) -> int:
        return self.ends[zone] - len(self.zones[zone].lines)

    def _owner(self, zone: int) -> Slot:
        return self._slots[bisect_right(self.of_slot, zone) - 1]


def _zones(slot: Slot, min_chars: int, blocks: Mapping[Path, Spans]) -> list[Zone]:
    if slot.path in blocks and not slot.can_change:
        return block_zones(slot.text, blocks[slot.path], min_chars)
    if slot.kind in ("tool result", "document"):
        return zones_of(slot.text, min_chars)
    return spoken_zones(slot.text, min_chars)

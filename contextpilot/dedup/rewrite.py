"""From the texts of a prompt to shorter ones: zones, runs, references."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import accumulate, chain
from typing import NamedTuple

from .lines import Extent, Run, RunFinder
from .quotes import Quotes
from .references import looks_like_ours, write_numbered, write_reference, write_unchanged
from .report import Origin, Replacement
from .shapes import Path, Slot
from .texts import Zone, block_zones, shown_lines, spoken_zones, zones_of
from .trust import WORKSPACE, sources_for

CONTEXT_LINES = 3
"""Lines at each end of a run that stay, so that what changed beside it can be edited by its text;
fewer in short runs: one in so many of files, and of what is hardly edited."""
_LINES_PER_CONTEXT_LINE = 8
_LINES_PER_CONTEXT_LINE_ELSEWHERE = 24
_LINES_PER_QUOTE = 8
"""Among so many lines at least, a quarter of the run, one is looked for that can be quoted."""
_MIN_CHARS_PER_NUMBERED = 240
"""Lines are counted only for runs of so many characters: it is harder than to look for a line."""

Spans = Sequence[tuple[int, int]]


class _Named(NamedTuple):
    """A run that can be named: lines `begin .. end` of its zone, and what stands for them."""

    begin: int
    end: int
    reference: str


class _Writing:
    """One text while it is rewritten.

    Attributes:
        replacements: what was replaced so far.
        introduced: what its references named so far, by kind and number.
        saved: characters that they saved.
        end: where the last of them ended, in characters of the given text.
        lines: its lines for quotations, once some are counted; `places[z]` is where those of zone z
            begin, and `counted` how many are done.
    """

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.replacements: list[Replacement] = []
        self.introduced: set[tuple[str, int]] = set()
        self.saved = self.end = self.counted = 0
        self.lines: list[str] | None = None
        self.places: dict[int, int] = {}

    @property
    def text(self) -> str:
        """The text as it is written."""
        pieces, position, written = [], 0, 0
        for item in self.replacements:
            kept = item.start - written
            pieces += [self.slot.text[position : position + kept], item.reference]
            position += kept + len(item.original)
            written = item.start + len(item.reference)
        return "".join([*pieces, self.slot.text[position:]])

    def replace(self, item: Replacement, end: int) -> None:
        """Note a replacement that ended at character `end` of the given text."""
        self.replacements.append(item)
        self.introduced.add((item.origin.kind, item.origin.ordinal))
        self.saved += item.saved
        self.end = end


class Rewriter:
    """Replaces in `slots` what stands earlier; use once.

    All zones form one stream of lines: those of slot k are `zones_of_slot[k] .. [k + 1]`, and
    zone z ends before line `ends[z]`; `line_starts[z]` are where its lines begin, once needed.

    Args:
        slots: the texts of a prompt, in order.
        min_chars: a run holds at least so many characters.
        blocks: by path, the spans of blocks within texts that are not rewritten otherwise; each is
            replaced by a hint, as a whole or not at all.
        hint_template: the hint, with the field {first_line}.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        min_chars: int,
        blocks: Mapping[Path, Spans] | None = None,
        hint_template: str = "",
    ) -> None:
        self._slots = slots
        self._hint_template = hint_template
        self._min_chars = min_chars
        found = [_zones(slot, min_chars, blocks or {}) for slot in slots]
        self._zones: list[Zone] = list(chain.from_iterable(found))
        self._zones_of_slot = [0, *accumulate(map(len, found))]
        self._ends = list(accumulate(len(zone.lines) for zone in self._zones))
        self._line_starts: dict[int, list[int]] = {}
        self._quotes = Quotes()
        self._among_blocks: dict[int, Quotes] = {}
        self._uncounted: list[str] = []
        self._kept_whole: defaultdict[str, list[Slot]] = defaultdict(list)

    def rewrite(self) -> tuple[dict[Path, str], list[Replacement]]:
        """The changed texts by path, and all replacements in prompt order."""
        texts: dict[Path, str] = {}
        replacements: list[Replacement] = []
        finder = self._finder()
        for number, slot in enumerate(self._slots):
            writing = _Writing(slot)
            first, last = self._zones_of_slot[number : number + 2]
            if self._replaced_whole(writing):
                finder.drop(first, last)
            elif first < last:
                accept = partial(self._accept, writing, range(first, last))
                for zone in range(first, last):
                    finder.search(zone, accept)
            self._finish(writing)
            if writing.replacements:
                texts[slot.path] = writing.text
                replacements += writing.replacements
        return texts, replacements

    def _finder(self) -> RunFinder:
        extents = []
        for number, slot in enumerate(self._slots):
            for zone in range(*self._zones_of_slot[number : number + 2]):
                can_change = slot.can_change or self._zones[zone].whole
                names = sources_for(slot.trust) if can_change else None
                extents.append(Extent(self._ends[zone], slot.unit, slot.trust, names))
        keys = list(chain.from_iterable(zone.keys for zone in self._zones))
        return RunFinder(keys, extents, self._min_chars)

    # -- whole texts -----------------------------------------------------------------------------

    def _replaced_whole(self, writing: _Writing) -> bool:
        """Replace a text that was given before as a whole, and still stands there."""
        slot = writing.slot
        source = self._same_as(slot)
        if source is None:
            return False
        self._count_uncounted()
        original = slot.text.removesuffix("\n")
        lines = original.split("\n")
        sentence = write_unchanged(
            lines=len(lines),
            place=f"{source.kind} #{source.ordinal}",
            quote=self._quotes.unique(lines[0]),
        )
        if len(sentence) >= len(original):
            return False
        origin = Origin(source.path, 1, source.kind, source.ordinal)
        item = Replacement(slot.path, 1, len(lines), origin, 0, sentence, original)
        writing.replace(item, len(original))
        self._quotes.add([sentence])
        writing.lines = []
        return True

    def _same_as(self, slot: Slot) -> Slot | None:
        if not slot.can_change or not slot.is_alone or len(slot.text) < self._min_chars:
            return None
        names = sources_for(slot.trust)
        for other in self._kept_whole.get(slot.text, ()):
            if other.trust in names and other.unit != slot.unit:
                return None if looks_like_ours(slot.text) else other
        return None

    # -- runs of lines ---------------------------------------------------------------------------

    def _accept(self, writing: _Writing, own: range, run: Run) -> tuple[int, int] | None:
        """Replace a run, or the most of it that can be named; None where that saves nothing."""
        zone, source = self._zones[run.zone], self._zones[run.source_zone]
        begin = run.start - self._begin(run.zone)
        shift = run.source - self._begin(run.source_zone) - begin
        if writing.lines is None:
            self._count_uncounted()
            writing.lines, writing.places = self._lines(writing.slot, own)
        named = (self._hint if zone.whole else self._name)(writing, run, begin, shift)
        if named is None:
            return None
        start, end = self._span(run.zone, named.begin, named.end)
        reference = zone.encode(named.reference, zone.lines[named.begin])
        if len(reference) >= end - start:
            return None
        owner = self._owner(run.source_zone)
        line = source.first + named.begin + shift + 1
        item = Replacement(
            path=writing.slot.path,
            line=zone.first + named.begin + 1,
            lines=named.end - named.begin,
            origin=Origin(owner.path, line, owner.kind, owner.ordinal),
            start=start - writing.saved,
            reference=reference,
            original=writing.slot.text[start:end],
        )
        writing.replace(item, end)
        self._quotes.add([named.reference])
        writing.counted += item.lines
        return run.start + named.begin - begin, run.start + named.end - begin

    def _hint(self, writing: _Writing, run: Run, begin: int, shift: int) -> _Named | None:
        """The hint for a block that stands elsewhere as a whole."""
        zone, source = self._zones[run.zone], self._zones[run.source_zone]
        if begin or run.lines < len(zone.lines):
            return None
        among = self._block_quotes(writing.slot.unit).unique(zone.lines[0])
        if among is None:
            return None
        self._count_to(writing, run.zone, 0)
        label = len(source.shown(shift)) - len(source.keys[shift])
        quote = self._quotes.unique(source.shown(shift), label + len(among))
        if quote is None:
            return None
        return _Named(0, run.lines, self._hint_template.format(first_line=quote))

    def _name(self, writing: _Writing, run: Run, begin: int, shift: int) -> _Named | None:
        """The reference for a run without the lines before its first that can be quoted."""
        zone, source = self._zones[run.zone], self._zones[run.source_zone]
        begin, end = self._without_context(writing, run, begin)
        owner = self._owner(run.source_zone)
        place = f"{owner.kind} #{owner.ordinal}"
        quoted = self._quotable_line(writing, run, range(begin, end), shift)
        if quoted is None:
            number = _shifted_number(zone, begin, source, shift)
            first = source.first + begin + shift + 1
            reference = write_numbered(lines=end - begin, place=place, first=first, number=number)
            can_count = owner.is_alone and not zone.is_json and not source.is_json
            is_long = self._num_chars(run.zone, begin, end) >= _MIN_CHARS_PER_NUMBERED
            return _Named(begin, end, reference) if can_count and is_long else None
        begin, quote = quoted
        if self._num_chars(run.zone, begin, end) < self._min_chars:
            return None
        reference = write_reference(
            lines=end - begin,
            place=None if (owner.kind, owner.ordinal) in writing.introduced else place,
            quote=quote,
            number=_shifted_number(zone, begin, source, shift),
            mark="'" if zone.is_json or source.is_json else '"',
        )
        return _Named(begin, end, reference)

    def _quotable_line(
        self, writing: _Writing, run: Run, lines: range, shift: int
    ) -> tuple[int, str] | None:
        """The first line of a run whose beginning no other line has; those before it stay."""
        source = self._zones[run.source_zone]
        for line in lines[: max(_LINES_PER_QUOTE, len(lines) // 4)]:
            self._count_to(writing, run.zone, line)
            quote = self._quotes.unique(source.shown(line + shift))
            if quote is not None:
                return line, quote
        return None

    def _without_context(self, writing: _Writing, run: Run, begin: int) -> tuple[int, int]:
        """A run's lines without those that stay beside other lines that stay."""
        zone, end = self._zones[run.zone], begin + run.lines
        is_file = writing.slot.trust == WORKSPACE
        share = _LINES_PER_CONTEXT_LINE if is_file else _LINES_PER_CONTEXT_LINE_ELSEWHERE
        context = min(CONTEXT_LINES, run.lines // share)
        start, _ = self._span(run.zone, begin, end)
        follows_kept = zone.first + begin > 0 and start > writing.end + len(zone.separator)
        is_followed = zone.first + end < zone.of
        if not is_followed and not zone.keys[end - 1]:
            end -= 1  # so that a text still ends with its line end
        return begin + context * follows_kept, end - context * is_followed

    # -- places ----------------------------------------------------------------------------------

    def _begin(self, zone: int) -> int:
        return self._ends[zone] - len(self._zones[zone].lines)

    def _owner(self, zone: int) -> Slot:
        return self._slots[bisect_right(self._zones_of_slot, zone) - 1]

    def _num_chars(self, zone: int, begin: int, end: int) -> int:
        start, last = self._span(zone, begin, end) if begin < end else (0, 0)
        return last - start

    def _span(self, index: int, begin: int, end: int) -> tuple[int, int]:
        """From the first character of line `begin` to the last of the line before `end`."""
        zone = self._zones[index]
        starts = self._line_starts.get(index)
        if starts is None:
            starts = self._line_starts[index] = zone.line_starts()
        width = len(zone.separator)
        return starts[begin] + begin * width, starts[end] + (end - 1) * width

    # -- quotations ------------------------------------------------------------------------------

    def _finish(self, writing: _Writing) -> None:
        """Note what the rewritten text offers to those after it."""
        if writing.lines is None:
            self._uncounted.append(writing.slot.text)
        else:
            self._quotes.add(writing.lines[writing.counted :])
        if not writing.replacements and writing.slot.is_alone:
            self._kept_whole[writing.slot.text].append(writing.slot)

    def _count_uncounted(self) -> None:
        for text in self._uncounted:
            self._quotes.add(shown_lines(text))
        self._uncounted = []

    def _block_quotes(self, unit: int) -> Quotes:
        """Quotations that fit one block of a unit alone: any of them may come to stand first."""
        known = self._among_blocks.get(unit)
        if known is None:
            known = self._among_blocks[unit] = Quotes()
            for number, slot in enumerate(self._slots):
                if slot.unit == unit:
                    for zone in self._zones[slice(*self._zones_of_slot[number : number + 2])]:
                        known.add(zone.lines)
        return known

    def _count_to(self, writing: _Writing, zone: int, line: int) -> None:
        """Count the lines of a text for quotations as far as a line of one of its zones."""
        assert writing.lines is not None
        until = writing.places[zone] + line
        if until > writing.counted:
            self._quotes.add(writing.lines[writing.counted : until])
            writing.counted = until

    def _lines(self, slot: Slot, zones: range) -> tuple[list[str], dict[int, int]]:
        """The lines of a text that its reader sees, and where those of its zones begin among them.

        Those of JSON that lie outside all zones come first, though they stand between them: more
        is then taken for quoted twice than is.
        """
        if not any(self._zones[zone].is_json for zone in zones):
            return slot.text.split("\n"), {zone: self._zones[zone].first for zone in zones}
        taken = {self._zones[zone].offset for zone in zones}
        lines, places = list(shown_lines(slot.text, taken)), {}
        for zone in zones:
            places[zone] = len(lines)
            lines += map(self._zones[zone].shown, range(len(self._zones[zone].lines)))
        return lines, places


def _shifted_number(zone: Zone, begin: int, source: Zone, shift: int) -> int | None:
    """The number that a listing gives a line, where it is not that of its copy."""
    number = zone.number(begin)
    return None if number == source.number(begin + shift) else number


def _zones(slot: Slot, min_chars: int, blocks: Mapping[Path, Spans]) -> list[Zone]:
    if slot.path in blocks and not slot.can_change:
        return block_zones(slot.text, blocks[slot.path], min_chars)
    if slot.kind in ("tool result", "document"):
        return zones_of(slot.text, min_chars)
    return spoken_zones(slot.text, min_chars)

"""From the texts of a prompt to shorter ones: zones, runs, references."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from .edges import without_context
from .lines import RunFinder
from .quotes import LENGTHS, Quotes, can_be_quoted
from .references import looks_like_ours, write_identical, write_numbered, write_reference
from .report import Origin, Replacement
from .shapes import Path, Slot
from .stream import Copy, Spans, Stream
from .texts import shown_lines
from .trust import sources_for

_LINES_PER_QUOTE, _MOST_LINES_PER_QUOTE = 8, 64
"""In a quarter of the run, of so many lines at least and at most, one is looked for to quote."""
_MIN_CHARS_PER_NUMBERED = 240
"""Lines are counted only for runs of so many characters: it is harder than to look for a line."""
_WORTH_COUNTING = 40
"""So many characters more must that save than a quotation, of a text that is there for the most."""


class _Writing:
    """One text while it is rewritten.

    Attributes:
        replacements: what was replaced so far.
        introduced: what its references named so far, as "tool result #1".
        saved: characters that they saved.
        lines: its lines for quotations, once some are counted; `places[z]` is where those of zone z
            begin, and `counted` how many are done.
    """

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.replacements: list[Replacement] = []
        self.introduced: set[str] = set()
        self.saved = self.counted = 0
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

    def replace(self, item: Replacement) -> None:
        """Note a replacement, which comes after those before it."""
        self.replacements.append(item)
        self.introduced.add(f"{item.origin.kind} #{item.origin.ordinal}")
        self.saved += item.saved


class Rewriter:
    """Replaces in `slots` what stands earlier; use once.

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
        chosen = blocks or {}
        can_change = [slot.unit for slot in slots if slot.can_change or slot.path in chosen]
        self._slots = slots if can_change and can_change[-1] > slots[0].unit else []
        self._min_chars = min_chars
        self._hint_template = hint_template
        self._stream = Stream(self._slots, min_chars, chosen)
        self._quotes = Quotes()
        self._among_blocks: dict[int, Quotes] = {}
        self._uncounted: list[str] = []
        self._kept_whole: defaultdict[str, list[Slot]] = defaultdict(list)

    def rewrite(self) -> tuple[dict[Path, str], list[Replacement]]:
        """The changed texts by path, and all replacements in prompt order."""
        texts: dict[Path, str] = {}
        replacements: list[Replacement] = []
        finder = RunFinder(self._stream.keys(), self._stream.extents(), self._min_chars)
        for number, slot in enumerate(self._slots):
            writing = _Writing(slot)
            if self._replaced_whole(writing):
                for zone in self._stream.zones_of(number):
                    finder.drop(zone)
            else:
                self._replace_runs(writing, number, finder)
            self._finish(writing)
            if writing.replacements:
                texts[slot.path] = writing.text
                replacements += writing.replacements
        return texts, replacements

    def _replace_runs(self, writing: _Writing, number: int, finder: RunFinder) -> None:
        zones = self._stream.zones_of(number)
        found = [self._stream.copy(run) for zone in zones for run in finder.find(zone)]
        if not found:
            for zone in zones:
                finder.settle(zone)
            return
        self._count_uncounted()
        writing.lines, writing.places = self._stream.shown(number)
        dropped: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        for copy in without_context(found):
            replaced = self._replaced(writing, copy)
            if replaced is not None:
                dropped[copy.number].append(self._stream.lines_of(replaced))
        for zone in zones:
            finder.settle(zone, dropped[zone])

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
        sentence = write_identical(
            lines=len(lines),
            place=f"{source.kind} #{source.ordinal}",
            quote=self._quotes.unique(lines[0]),
        )
        if len(sentence) >= len(original):
            return False
        origin = Origin(source.path, 1, source.kind, source.ordinal)
        writing.replace(Replacement(slot.path, 1, len(lines), origin, 0, sentence, original))
        self._quotes.add([sentence])
        writing.lines = []
        return True

    def _same_as(self, slot: Slot) -> Slot | None:
        if not slot.can_change or not slot.is_alone or len(slot.text) < self._min_chars:
            return None
        equal = self._kept_whole.get(slot.text, ())
        names = sources_for(slot.trust) if equal else ()
        for other in equal:
            if other.trust in names and other.unit != slot.unit:
                return None if looks_like_ours(slot.text) else other
        return None

    # -- runs of lines ---------------------------------------------------------------------------

    def _replaced(self, writing: _Writing, copy: Copy) -> Copy | None:
        """Replace a run, or the most of it that can be named; None where that saves nothing."""
        named = self._hint(writing, copy) if copy.zone.whole else self._name(writing, copy)
        if named is None:
            return None
        copy, written = named
        start, end = self._stream.chars_of(copy)
        reference = copy.zone.encode(written, copy.zone.lines[copy.begin])
        if len(reference) >= end - start:
            return None
        owner = copy.owner
        item = Replacement(
            path=writing.slot.path,
            line=copy.zone.first + copy.begin + 1,
            lines=copy.end - copy.begin,
            origin=Origin(owner.path, copy.first_line, owner.kind, owner.ordinal),
            start=start - writing.saved,
            reference=reference,
            original=writing.slot.text[start:end],
        )
        self._count_to(writing, copy, copy.begin)
        writing.replace(item)
        self._quotes.add([written])
        writing.counted = writing.places[copy.number] + copy.end
        return copy

    def _hint(self, writing: _Writing, copy: Copy) -> tuple[Copy, str] | None:
        """The hint for a block that stands elsewhere as a whole."""
        if copy.begin or copy.end < len(copy.zone.lines):
            return None
        among = self._block_quotes(writing.slot.unit).unique(copy.zone.lines[0])
        if among is None:
            return None
        self._count_to(writing, copy, 0)
        line, key = copy.source.shown(copy.shift), copy.source.keys[copy.shift]
        quote = self._quotes.unique(line, at_least=len(line) - len(key) + len(among))
        return None if quote is None else (copy, self._hint_template.format(first_line=quote))

    def _name(self, writing: _Writing, copy: Copy) -> tuple[Copy, str] | None:
        """The shorter of the references for a run: by a line that is quoted, or by numbers."""
        quoted = self._quoted(writing, copy)
        is_most = 2 * (copy.end - copy.begin) > copy.source.of and not copy.source.is_json
        if not (quoted is None or is_most) or not self._stream.can_be_counted(copy):
            return quoted
        if self._num_chars(copy) < _MIN_CHARS_PER_NUMBERED:
            return quoted
        reference = write_numbered(
            lines=copy.end - copy.begin,
            place=copy.place,
            first=copy.first_line,
            number=copy.listed_number,
        )
        saved = 0 if quoted is None else self._saved(*quoted)
        worth_it = self._saved(copy, reference) > saved + _WORTH_COUNTING
        return (copy, reference) if worth_it else quoted

    def _quoted(self, writing: _Writing, copy: Copy) -> tuple[Copy, str] | None:
        """The reference for a run from its first line on whose beginning no other line has."""
        source, shortest = copy.source, LENGTHS[0] - len(copy.source.lead)
        for line in _quoted_lines(copy):
            if len(source.lines[line + copy.shift]) < shortest:
                continue
            there = source.shown(line + copy.shift)
            if not can_be_quoted(there):
                continue
            self._count_to(writing, copy, line)
            quote = self._quotes.unique(there)
            if quote is not None:
                break
        else:
            return None
        copy = copy if line == copy.begin else copy._replace(begin=line)
        if self._num_chars(copy) < self._min_chars:
            return None
        reference = write_reference(
            lines=copy.end - copy.begin,
            place=None if copy.place in writing.introduced else copy.place,
            quote=quote,
            number=copy.listed_number,
            mark="'" if copy.zone.is_json or copy.source.is_json else '"',
        )
        return copy, reference

    def _saved(self, copy: Copy, reference: str) -> int:
        return self._num_chars(copy) - len(reference)

    def _num_chars(self, copy: Copy) -> int:
        return self._stream.num_chars(copy)

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

    def _count_to(self, writing: _Writing, copy: Copy, line: int) -> None:
        """Count the lines of a text for quotations as far as a line of one of its zones."""
        assert writing.lines is not None
        until = writing.places[copy.number] + line
        if until > writing.counted:
            self._quotes.add(writing.lines[writing.counted : until])
            writing.counted = until

    def _block_quotes(self, unit: int) -> Quotes:
        """Quotations that fit one block of a unit alone: any of them may come to stand first."""
        known = self._among_blocks.get(unit)
        if known is None:
            known = self._among_blocks[unit] = Quotes()
            for number, slot in enumerate(self._slots):
                if slot.unit == unit:
                    for zone in self._stream.zones_of(number):
                        known.add(self._stream.zones[zone].lines)
        return known


def _quoted_lines(copy: Copy) -> range:
    """The lines of a run that may be quoted: what stands before the one that is stays."""
    lines = range(copy.begin, copy.end)
    return lines[: min(max(_LINES_PER_QUOTE, len(lines) // 4), _MOST_LINES_PER_QUOTE)]

"""A run of blocks within one text, and the text with these blocks in another order.

<doc id="1"> first </doc> \n <doc id="2"> second </doc>
└─frame─┘ label   └─body─┘   gap: stays where it is
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeAlias

from contextpilot.prompt.annotate import annotate, runs

Path: TypeAlias = tuple[str | int, ...]
Kind: TypeAlias = Literal[
    "xml",
    "numbered",
    "json",
    "markdown",
    "separator",
    "bullets",
    "files",
    "records",
    "parts",
    "images",
]
Labels: TypeAlias = Literal["stay", "move"]
LABELS: tuple[Labels, ...] = ("stay", "move")
MAX_GROUPS = 8
"""Lists in one text; with more of them it is no prompt that retrieval writes."""
MAX_PIECES = 2000
"""Blocks in one list."""

# Longer notes are taken for the question by small models (scripts/check_answers.py --notes).
LEGEND_TEMPLATE = "(Numbered originally: {legend}.)"


class Span(NamedTuple):
    """Characters `start .. end` of a text."""

    start: int
    end: int

    def of(self, text: str) -> str:
        """Return these characters."""
        return text[self.start : self.end]


class Piece(NamedTuple):
    """One block as it stands in a text: all of it, its number or id if it has one, its content."""

    span: Span
    body: Span
    label: Span | None = None

    def fill(self, text: str, label: str, body: str) -> str:
        """Return the block with another label and another content."""
        holes = [(self.body, body)]
        if self.label is not None:
            holes = sorted([*holes, (self.label, label)])
        written, at = "", self.span.start
        for hole, new in holes:
            written += text[at : hole.start] + new
            at = hole.end
        return written + text[at : self.span.end]


class Edit(NamedTuple):
    """Characters of a text, and what comes in their place."""

    span: Span
    new: str


class Found(NamedTuple):
    """What a finder found.

    Attributes:
        pieces: the blocks, in order.
        note_at: where a note on them may be written; None where it cannot.
        why: the rule that says that they are documents; "" when none does.
        against: the rule that the finder knows to forbid moving them; "" when none.
        counted: labels count places, so that a note may tell others; else they are ids, and never
            leave their block.
        depth: how many JSON strings the blocks stand within.
        example: where an example begins that stands before the list, and asks for nothing.
    """

    kind: Kind
    pieces: tuple[Piece, ...]
    note_at: int | None
    why: str = ""
    against: str = ""
    counted: bool = True
    depth: int = 0
    example: int | None = None


def too_many(kind: Kind, pieces: Sequence[Piece]) -> Found:
    """Return a list that stays, since one message or list holds too many."""
    return Found(kind, tuple(pieces), None, against="too-many")


@dataclass(frozen=True)
class Group:
    """Blocks of one text, to be permuted among themselves.

    Attributes:
        path: where the text stands: `messages[path[0]][path[1]]...`.
        text: the text.
        found: its blocks.
        labels: "stay" keeps labels that only count positions (1, 2, 3 ...) where they are, so
            that a block is the same text in every request; "move" takes them along. Ids always
            move with their block.
    """

    path: Path
    text: str
    found: Found
    labels: Labels = "stay"

    @property
    def kind(self) -> Kind:
        """How the blocks are set off."""
        return self.found.kind

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The blocks, in order."""
        return self.found.pieces

    @property
    def why(self) -> str:
        """The rule that says that they are documents."""
        return self.found.why

    @property
    def is_set(self) -> bool:
        """Whether the order in which the blocks were given says nothing, and differs each time."""
        return self.found.why == "files-added"

    @property
    def start(self) -> int:
        """Where the first block begins in the text."""
        return self.pieces[0].span.start

    @cached_property
    def shown(self) -> tuple[str, ...]:
        """The label of each block; empty when there are none."""
        spans = [piece.label for piece in self.pieces if piece.label is not None]
        return tuple(span.of(self.text) for span in spans)

    @cached_property
    def numbers_stay(self) -> bool:
        """Whether labels count positions, and stay in place."""
        if self.labels != "stay" or not self.found.counted or self.found.note_at is None:
            return False
        return len(self.shown) == len(self.pieces) and _counts(self.shown)

    @cached_property
    def _is_framed_alike(self) -> bool:
        if any(piece.label is not None for piece in self.pieces) and not self.numbers_stay:
            return False
        frames = {piece.fill(self.text, "\0", "\0\0") for piece in self.pieces}
        return len(frames) == 1

    @cached_property
    def texts(self) -> list[str]:
        """What moves of each block, which is its identity: without frame where all are alike."""
        if self._is_framed_alike:
            return [piece.body.of(self.text) for piece in self.pieces]
        if self.numbers_stay:
            bodies = [piece.body.of(self.text) for piece in self.pieces]
            return [p.fill(self.text, "", b) for p, b in zip(self.pieces, bodies, strict=True)]
        return [piece.span.of(self.text) for piece in self.pieces]

    @property
    def values(self) -> Sequence[Any]:
        """The blocks, as the planner reads them."""
        return self.texts

    @cached_property
    def contents(self) -> list[str]:
        """The content of each block alone, to compare with other places of the prompt."""
        return [self._decode(piece.body.of(self.text)) for piece in self.pieces]

    @property
    def head_end(self) -> int:
        """Where what all orders have in common ends: the first block's frame and label included."""
        return self.pieces[0].body.start if self._is_framed_alike else self.start

    def edits(
        self, order: Sequence[int], replacements: Mapping[int, str], note: str = ""
    ) -> list[Edit]:
        """Return what makes of the text one with its blocks in this order, and a note."""
        written, at = [], self.start
        for position, rank in enumerate(order):
            here = self.pieces[position].span
            written += [self.text[at : here.start], self._written(position, rank, replacements)]
            at = here.end
        edits = [Edit(Span(self.start, at), "".join(written))]
        if note and self.found.note_at is not None:
            edits.append(Edit(Span(self.found.note_at, self.found.note_at), f"\n\n{note}"))
        return edits

    def ranking(self, order: Sequence[int], template: str) -> str:
        """Return the note that tells the original order: by number shown, else by place."""
        if self.found.note_at is None or list(order) == sorted(order):
            return ""
        if self.numbers_stay or len(set(self.shown)) != len(self.pieces):
            return annotate(order, template)
        if not all(label.isdigit() for label in self.shown):
            return annotate(order, template)
        numbers = [int(label) for label in self.shown]
        entries = [
            self._numbers(first, last)
            if last - first != 1
            else ",".join(self.shown[first : last + 1])
            for first, last in runs(numbers)
        ]
        return template.format(ranking=",".join(entries))

    def legend(self, order: Sequence[int], template: str = LEGEND_TEMPLATE) -> str:
        """Return which original number each shown one stands for; "" when none differs.

        Numbers in a row are one entry: "1 is 4, 2-4 are 1-3, the others are right".
        """
        if not self.numbers_stay or list(order) == sorted(order):
            return ""
        entries = [
            f"{self._numbers(start, last)} {'is' if start == last else 'are'} "
            f"{self._numbers(order[start], order[last])}"
            for start, last in runs(order)
            if order[start] != start
        ]
        if any(position == rank for position, rank in enumerate(order)):
            entries.append("the others are right")
        return template.format(legend=", ".join(entries))

    def _numbers(self, first: int, last: int) -> str:
        return self.shown[first] if first == last else f"{self.shown[first]}-{self.shown[last]}"

    def _written(self, position: int, rank: int, replacements: Mapping[int, str]) -> str:
        piece = self.pieces[rank]
        given = replacements.get(rank)
        body = piece.body.of(self.text) if given is None else self._encode(given)
        if piece.label is None:
            return piece.fill(self.text, "", body)
        label = self.shown[position if self.numbers_stay else rank]
        return piece.fill(self.text, label, body)

    def _encode(self, content: str) -> str:
        for _ in range(self.found.depth):
            content = json.dumps(content)[1:-1]
        return content

    def _decode(self, body: str) -> str:
        for _ in range(self.found.depth):
            body = str(json.loads(f'"{body}"', strict=False))
        return body


def edited(text: str, edits: Sequence[Edit], end: int | None = None) -> str:
    """Return a text, or what stands before `end` in it, with edits that do not overlap."""
    until = len(text) if end is None else end
    written, at = [], 0
    for span, new in sorted(edits):
        if span.end > until:
            break
        written += [text[at : span.start], new]
        at = span.end
    return "".join([*written, text[at:until]])


def _counts(labels: Sequence[str]) -> bool:
    """Return whether labels are 0, 1, 2 ... or 1, 2, 3 ..."""
    if labels[0] not in ("0", "1"):
        return False
    first = int(labels[0])
    return list(labels) == [str(first + i) for i in range(len(labels))]

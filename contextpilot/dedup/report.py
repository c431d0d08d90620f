"""What `deduplicate_messages` did, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

from .shapes import Kind, Path, describe, text_at, with_texts


class Origin(NamedTuple):
    """Where the earlier copy stands, which is kept: `messages[path[0]][path[1]]...`.

    `line` counts from 1 in the original text (in JSON: in the string value). `kind` and `ordinal`
    are the name that the reference uses: the n-th tool result, document or message of a role.
    """

    path: Path
    line: int
    kind: Kind
    ordinal: int


class Replacement(NamedTuple):
    """One run of lines that became a reference.

    The run is `lines` lines from `line` (counted as in `Origin`) of the text at `path`.
    `reference` stands at character `start` of the new text in place of `original`, both exactly as
    in the text (in JSON: escaped).
    """

    path: Path
    line: int
    lines: int
    origin: Origin
    start: int
    reference: str
    original: str

    @property
    def chars(self) -> int:
        """Characters that the run held."""
        return len(self.original)

    @property
    def saved(self) -> int:
        return len(self.original) - len(self.reference)


@dataclass(frozen=True)
class DedupReport:
    """The outcome of one `deduplicate_messages` call.

    Characters are counted over the texts that may be rewritten, in the written form.
    """

    chars_before: int
    chars_after: int
    replacements: tuple[Replacement, ...]
    messages: tuple[Any, ...] = field(repr=False)

    @property
    def chars_saved(self) -> int:
        return self.chars_before - self.chars_after

    def expand(self, messages: Sequence[Any] | None = None) -> list[Any]:
        """The messages with every reference turned back into the lines that it replaced.

        Without an argument the original messages; with one, `messages` must begin with the
        deduplicated ones (further turns may follow). Mutates nothing.

        Raises ValueError if a reference is not where it was written.
        """
        messages = self.messages if messages is None else messages
        texts = {
            path: _expanded(text_at(messages, path), list(group))
            for path, group in groupby(self.replacements, attrgetter("path"))
        }
        return with_texts(messages, texts)


def _expanded(text: str, replacements: list[Replacement]) -> str:
    pieces, position = [], 0
    for item in replacements:
        end = item.start + len(item.reference)
        if text[item.start : end] != item.reference:
            raise ValueError(
                f"messages must be those that deduplicate_messages returned: the text at "
                f"{describe(item.path)} has no reference at character {item.start}"
            )
        pieces += [text[position : item.start], item.original]
        position = end
    return "".join([*pieces, text[position:]])

"""Runs of document parts in a message's content list (Anthropic's `document`, `search_result`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from contextpilot.prompt.extract.group import Kind, Path
from contextpilot.prompt.extract.places import document_text, with_document_text


@dataclass(frozen=True)
class PartsGroup:
    """Items `begin ..` of the list at `path`, to be permuted among themselves."""

    path: Path
    begin: int
    parts: tuple[Mapping[str, Any], ...]

    kind: Kind = "parts"
    why: str = "search-parts"
    is_set: bool = False
    numbers_stay: bool = False

    @cached_property
    def texts(self) -> list[str]:
        """What moves of each block, which is its identity: the whole part."""
        return [json.dumps(part, ensure_ascii=False, default=str) for part in self.parts]

    @property
    def values(self) -> Sequence[Any]:
        """The blocks, as the planner reads them."""
        return self.texts

    @cached_property
    def contents(self) -> list[str]:
        """The text of each part."""
        return [document_text(part) or "" for part in self.parts]

    def arranged(
        self, items: Sequence[Any], order: Sequence[int], replacements: Mapping[int, str]
    ) -> list[Any]:
        """Return the list of which these parts are items, with them in this order."""
        new = [
            with_document_text(self.parts[rank], replacements[rank])
            if rank in replacements
            else self.parts[rank]
            for rank in order
        ]
        return [*items[: self.begin], *new, *items[self.begin + len(new) :]]

"""Images of one content list as a group of blocks, each with its label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from contextpilot.images.image import Image, ImageApi, text_part
from contextpilot.prompt.extract.group import Kind, Path
from contextpilot.prompt.extract.images import ImageRun
from contextpilot.prompt.extract.parts import PartsGroup


@dataclass(frozen=True)
class ImagesGroup(PartsGroup):
    """Images to be permuted among themselves; `pieces` are items of `parts`, as in `ImageRun`."""

    pieces: tuple[tuple[int, int], ...] = ()
    kind: Kind = "images"
    why: str = "search-images"

    @cached_property
    def values(self) -> list[Any]:
        """The blocks."""
        return [Image(self.parts[a:b]) for a, b in self.pieces]

    @cached_property
    def texts(self) -> list[str]:
        """What identifies each block: its label, and the image's content."""
        return [image.identity for image in self.values]

    @cached_property
    def contents(self) -> list[str]:
        """The label of each, without its colon."""
        return [image.shown(lambda _: "").rstrip(": \n") for image in self.values]

    def arranged(
        self, items: Sequence[Any], order: Sequence[int], replacements: Mapping[int, str]
    ) -> list[Any]:
        """Return the list of which these are items, with them in this order."""
        new: list[Any] = []
        for rank in order:
            given = self.parts[slice(*self.pieces[rank])]
            known = replacements.get(rank)
            new += given if known is None else [text_part(known, self._api)]
        return [*items[: self.begin], *new, *items[self.begin + len(self.parts) :]]

    @property
    def _api(self) -> ImageApi:
        return "responses" if self.parts[-1].get("type") == "input_image" else "chat"

    @classmethod
    def of(cls, path: Path, run: ImageRun, items: Sequence[Any], why: str) -> ImagesGroup | None:
        """Return the group of a run within the list at `path`; None where a part tells no image."""
        pieces = tuple((a - run.begin, b - run.begin) for a, b in run.pieces)
        group = cls(path, run.begin, tuple(items[run.begin : run.end]), pieces=pieces, why=why)
        try:
            return group if group.texts else None
        except (TypeError, ValueError):
            return None

"""One text in which blocks may stand, with what every finder asks of it, worked out once."""

from __future__ import annotations

from functools import cached_property

from contextpilot.prompt.extract.cues import Intro, read_intro
from contextpilot.prompt.extract.fences import Fences
from contextpilot.prompt.extract.places import Role
from contextpilot.prompt.extract.tools import ToolKind


class Page:
    """One text.

    Attributes:
        role: whose text it is.
        tool: what the tool does whose result it is; "unknown" for other texts.
        told: an earlier message says that documents follow.
    """

    def __init__(
        self, text: str, role: Role, tool: ToolKind = "unknown", *, told: bool = False
    ) -> None:
        self.text = text
        self.role = role
        self.tool = tool
        self.told = told
        self._intros: dict[tuple[int, int], Intro] = {}

    @cached_property
    def fences(self) -> Fences:
        """The code fences of the text."""
        return Fences(self.text)

    @property
    def is_found(self) -> bool:
        """Whether a search returned the text."""
        return self.role == "tool" and self.tool == "search"

    def intro(self, start: int, begin: int = 0) -> Intro:
        """Return what stands before a list that begins at `start`, down to `begin`."""
        known = self._intros.get((start, begin))
        if known is None:
            known = self._intros[start, begin] = read_intro(self.text, start, begin)
        return known

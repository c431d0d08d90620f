"""A rewrite that waits for its plan: what the library and the proxy do with any request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from contextpilot.block import Block
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import Head
from contextpilot.planning import Job, Planned


class PendingRewrite(Protocol):
    """A request whose blocks are known and not planned yet: plan `job`, then `write`."""

    @property
    def blocks(self) -> Sequence[Block]:
        """All its blocks."""

    @property
    def head(self) -> Head:
        """What stands before them."""

    @property
    def bounds(self) -> Bounds:
        """How far they may move."""

    @property
    def conversation(self) -> str | None:
        """The conversation that the caller named."""

    @property
    def num_hinted(self) -> int:
        """Blocks that will stand as reference hints."""

    @property
    def saved_chars(self) -> int:
        """Characters that deduplication saved; known once written."""

    @property
    def has_question_before(self) -> bool:
        """Whether a message that may be the question stands before the blocks."""

    def cuts(self, planned: Planned) -> Sequence[int]:
        """Return the characters of the last message after which a prefix may be found again."""

    def job(self, namespace: str) -> Job:
        """Return the job that plans it."""

    def write(self, planned: Planned) -> dict[str, Any]:
        """Return the body to send to the engine; the one that was given is not changed."""

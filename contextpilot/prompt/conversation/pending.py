"""A rewrite that waits for its plan: what the library and the proxy do with any request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from contextpilot.block import CHARS_PER_TOKEN, Block
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import Head
from contextpilot.planning import Job, Planned


class WrittenBody(NamedTuple):
    """A request as it may go to the engine.

    Attributes:
        num_hinted: blocks of the planned list that stand as reference hints.
        saved_chars: characters that deduplication saved.
        saved_image_tokens: tokens of images that it replaced by references.
        order: for each position of the planned list the original rank of its block.
        cuts: characters of the last message after which a prefix may be found again.
    """

    body: dict[str, Any]
    num_hinted: int = 0
    saved_chars: int = 0
    saved_image_tokens: int = 0
    order: Sequence[int] = ()
    cuts: Sequence[int] = ()

    @property
    def saved_tokens(self) -> int:
        """What deduplication saved, an estimate."""
        return self.saved_chars // CHARS_PER_TOKEN + self.saved_image_tokens


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
    def has_question_before(self) -> bool:
        """Whether a message that may be the question stands before the blocks."""

    def job(self, namespace: str) -> Job:
        """Return the job that plans it."""

    def write(self, planned: Planned) -> WrittenBody:
        """Return the request with its plan; the body that was given is not changed."""

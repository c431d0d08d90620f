"""The requests of a run, and what each arm sends for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from contextpilot.block import Block, BlockKey
from contextpilot.prompt.messages import Messages, render_user

SYSTEM = "Answer the question from the documents. Be brief."
QUESTION = "Question: {query}"
"""Where nothing says that the question begins, a small model goes on copying the first passage."""


@dataclass(frozen=True)
class Requests:
    """The requests of a run, in order of arrival; `contexts[i]` are the blocks of `queries[i]`.

    Attributes:
        system: the system message.
        asked: how a prompt asks, with the field {query}.
    """

    queries: Sequence[str]
    contexts: Sequence[Sequence[Block]]
    system: str = SYSTEM
    asked: str = QUESTION

    def __len__(self) -> int:
        return len(self.queries)

    def first(self, count: int) -> Requests:
        """Return the first requests."""
        return replace(self, queries=self.queries[:count], contexts=self.contexts[:count])

    def question(self, position: int) -> str:
        """Return what the prompt of one request asks, after its blocks."""
        query = self.queries[position]
        return self.asked.format(query=query) if query else ""

    def salted(self, salt: str) -> str:
        """Return the system message of one arm: no other arm's prompt begins as its prompts do."""
        return f"[{salt}] {self.system}"


class Piece(NamedTuple):
    """A part of a prompt that a cache holds or not: its identity and its text."""

    key: BlockKey
    text: str


@dataclass(frozen=True)
class Prompt:
    """What one arm sends for one request.

    Attributes:
        position: of the request in the run.
        messages: chat messages.
        members: further members of the body.
        headers: further headers.
        pieces: the prompt's parts in order (system message, blocks, the rest); empty where the
            order is decided elsewhere.
        plan_s: seconds that planning this one request took.
    """

    position: int
    messages: list[dict[str, Any]]
    pieces: tuple[Piece, ...] = ()
    members: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    plan_s: float = 0.0


def pieces_of(messages: Messages, blocks: Sequence[Block]) -> tuple[Piece, ...]:
    """Return the parts of planned messages: what precedes the user's message, blocks, the rest."""
    head = "".join(str(message.get("content")) for message in messages[:-1])
    user = str(messages[-1]["content"])
    hinted = set(messages.hinted)
    pieces, start = [Piece(("head", head), head)], 0
    for number, rank in enumerate(messages.order, start=1):
        if rank in hinted:
            after = user.find(f"\n\n[{number + 1}] ", start)
            text = user[start : after + 2] if after >= 0 else ""
            piece = Piece(("hint", text), text)
        else:
            text = f"[{number}] {blocks[rank].text}\n\n"
            piece = Piece(blocks[rank].key, text)
        if not text or not user.startswith(text, start):
            break
        pieces.append(piece)
        start += len(text)
    return (*pieces, Piece(("tail", user[start:]), user[start:]))


def written(
    requests: Requests, position: int, order: Sequence[int], salt: str, annotation: str = ""
) -> Prompt:
    """Return a prompt with the blocks of a request in the order that is given."""
    blocks = requests.contexts[position]
    texts = [blocks[rank].text for rank in order]
    user = render_user(texts, annotation, requests.question(position))
    messages = Messages(
        [
            {"role": "system", "content": requests.salted(salt)},
            {"role": "user", "content": user},
        ],
        order=order,
    )
    return Prompt(position, messages, pieces_of(messages, blocks))

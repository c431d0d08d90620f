"""One turn of a conversation: what is planned, what stands as a hint, and the messages of both."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from contextpilot.block import (
    CHARS_PER_TOKEN,
    Block,
    BlockKey,
    estimate_tokens,
    unique,
)
from contextpilot.dedup.conversation import hints_for_history
from contextpilot.dedup.images import hints_for_images
from contextpilot.explain import Explanation
from contextpilot.fields import check_text
from contextpilot.images.image import Image, Part
from contextpilot.images.sources import image_parts
from contextpilot.images.weights import GUESS_TOKENS
from contextpilot.options import Options
from contextpilot.plan.online import NO_HEAD, Head, Plan
from contextpilot.prompt.annotate import LONGEST_ENTRY, annotate, time_order
from contextpilot.prompt.messages import (
    Message,
    Messages,
    message_texts,
    messages_key,
    render_parts,
    render_user,
)
from contextpilot.tokens import text_tokens

_VALUE = attrgetter("value")
_POSITION = "\0position\0"


class Turn(NamedTuple):
    """What the user message of one turn is made of.

    Attributes:
        blocks: all blocks, in original order.
        fresh: those to plan; `ranks` are their original ranks. Where bounds limit how far blocks
            move, hints are planned as blocks too.
        hints: for each rank that the prompt holds elsewhere the hint that stands for its block.
        before: the messages before this turn's.
        options: how to write it.
        has_images: whether images are among `blocks`.
    """

    blocks: Sequence[Block]
    fresh: Sequence[Block]
    ranks: Sequence[int]
    hints: dict[int, str]
    before: list[Message]
    options: Options
    has_images: bool

    @classmethod
    def split(cls, blocks: list[Block], before: list[Message], options: Options) -> Turn:
        """Tell the blocks to plan from those that the prompt already holds."""
        everything = range(len(blocks))
        has_images = Image in {*map(type, map(_VALUE, blocks))}
        no_repeats = not before and len({block.key for block in blocks}) == len(blocks)
        if no_repeats or not options.deduplicate:
            return cls(blocks, blocks, everything, {}, before, options, has_images)
        known = hints_for_history(unique(blocks), before, options.hint_template)
        known |= hints_for_images(blocks, before)
        copy = options.copy_template.format(position=_POSITION)
        first: dict[BlockKey, int] = {}
        hints: dict[int, str] = {}
        for rank, block in enumerate(blocks):
            if block.key in known:
                hints[rank] = known[block.key]
            elif first.setdefault(block.key, rank) != rank and _is_longer(block, copy):
                hints[rank] = copy
        if options.bounds.limited:
            planned = [_hint_block(blocks[rank], hints.get(rank)) for rank in everything]
            return cls(blocks, planned, everything, hints, before, options, has_images)
        ranks = [rank for rank in everything if rank not in hints]
        fresh = [blocks[rank] for rank in ranks]
        return cls(blocks, fresh, ranks, hints, before, options, has_images)

    def tail_tokens(self, query: str) -> int:
        """Estimate the prompt tokens after the last planned block."""
        tokens = text_tokens(query) + sum(map(text_tokens, self.hints.values()))
        template = self.options.ranking_template
        if template:
            characters = len(template) + len(self.blocks) * len(LONGEST_ENTRY)
            tokens += characters // CHARS_PER_TOKEN
        return tokens

    def write(self, plan: Plan, told: Explanation, query: str) -> Messages:
        """Return the messages: planned blocks, hints, annotation, question.

        Args:
            told: what is known of the plan, and the request's id.
        """
        order = [*plan.order]
        if self.hints:
            order = [self.ranks[i] for i in order]
            order += sorted(self.hints.keys() - order)
        template = self.options.ranking_template
        ranking = self._notes(order, template) if template else ""
        user = {"role": "user", "content": self._content(order, ranking, query)}
        return Messages(
            [*self.before, user],
            request_id=told.request_id,
            order=order,
            hinted=sorted(self.hints),
            live_tokens=told.matched_tokens,
            total_tokens=told.total_tokens,
            saved_tokens=self._saved_tokens(),
            blocks=[block.value for block in self.blocks],
        )

    @property
    def has_frames(self) -> bool:
        """Whether frames of a video are among its blocks: their order is time, not relevance."""
        values = (block.value for block in self.blocks) if self.has_images else ()
        return any(isinstance(value, Image) and value.time is not None for value in values)

    def _content(self, order: Sequence[int], ranking: str, query: str) -> str | list[Part]:
        """Return the user message's content: content parts where images are in it, else a text."""
        texts = self._texts(order)
        if not self.has_images:
            return render_user(texts, ranking, query)
        shown = [self.blocks[rank].value if rank not in self.hints else None for rank in order]
        if not any(isinstance(value, Image) for value in shown):
            return render_user(texts, ranking, query)
        api = self.options.image_api
        items = [
            value.items(api) if isinstance(value, Image) else text
            for value, text in zip(shown, texts, strict=True)
        ]
        return render_parts(items, ranking, query, api)

    def _notes(self, order: Sequence[int], template: str) -> str:
        """Return what is to be known of the order: of importance, of a video's frames in time."""
        if not self.has_images:
            return annotate(order, template)
        values = [self.blocks[rank].value for rank in order]
        times = [value.time if isinstance(value, Image) else None for value in values]
        notes = [] if None not in times else [annotate(order, template)]
        return "\n".join(filter(None, [*notes, time_order(times)]))

    def _saved_tokens(self) -> int:
        spared = (self.blocks[at].weight - estimate_tokens(self.hints[at]) for at in self.hints)
        return sum(max(0, tokens) for tokens in spared)

    def _texts(self, order: Sequence[int]) -> list[str]:
        """Return what stands at each position: a block's text, or the hint that stands for it."""
        if not self.hints:
            return [self.blocks[rank].text for rank in order]
        position: dict[BlockKey, int] = {}
        for at, rank in enumerate(order, start=1):
            if rank not in self.hints:
                position.setdefault(self.blocks[rank].key, at)
        copy, texts = self.options.copy_template, []
        marked = copy.format(position=_POSITION)
        for rank in order:
            block, hint = self.blocks[rank], self.hints.get(rank)
            if hint == marked:
                hint = copy.format(position=position.get(block.key, 0))
            texts.append(block.text if hint is None else hint)
        return texts


def _is_longer(block: Block, hint: str) -> bool:
    return isinstance(block.value, Image) or len(hint) < len(block.text)


def _hint_block(block: Block, hint: str | None) -> Block:
    """Return `block`, or the hint that stands for it as a block to plan."""
    if hint is None:
        return block
    return Block(("hint", block.key), hint, estimate_tokens(hint), block.value)


def opening(system_instruction: str | None, history: list[Message]) -> list[Message]:
    """Return the messages before this turn's: the system message once, then the history."""
    if system_instruction is None:
        return history
    if not isinstance(system_instruction, str):
        kind = type(system_instruction).__name__
        raise TypeError(f"system_instruction must be a string, not {kind}")
    system = {"role": "system", "content": system_instruction}
    if not history or history[0]["role"] != "system":
        return [system, *history]
    if history[0].get("content") != system_instruction:
        raise ValueError(
            "system_instruction differs from the system message that history begins with: "
            "pass only one of them"
        )
    return history


def head_of(before: Sequence[Message]) -> Head:
    """Return what stands before the first block as a head of the index's paths."""
    if not before:
        return NO_HEAD
    tokens = sum(estimate_tokens(text) for text in message_texts(before))
    tokens += GUESS_TOKENS * sum(1 for _ in image_parts(before))
    return Head((("head", messages_key(before)),), tokens)


def check_queries(queries: Any, num_contexts: int) -> None:
    """Raise TypeError or ValueError unless there is one question for each context."""
    if isinstance(queries, str) or not isinstance(queries, Sequence):
        raise TypeError(f"queries must be a list of strings, not {type(queries).__name__}")
    if len(queries) != num_contexts:
        raise ValueError(
            f"queries and all_contexts must be of equal length: {len(queries)} and {num_contexts}"
        )
    for i, query in enumerate(queries):
        check_text(f"queries[{i}]", query)

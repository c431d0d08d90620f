"""Drafts of requests whose blocks were found in their messages."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from contextpilot.block import CHARS_PER_TOKEN, Block, BlockReader, content_key, estimate_tokens
from contextpilot.dedup.conversation import hints_for_history, reference_hint
from contextpilot.dedup.messages import deduplicate_messages
from contextpilot.options import Options
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import Head
from contextpilot.planning import Job, Planned
from contextpilot.prompt.annotate import annotate
from contextpilot.prompt.extract import Arrangement, Extraction, extract_blocks
from contextpilot.prompt.extract.parts import PartsGroup
from contextpilot.prompt.messages import Message, message_texts, messages_key
from contextpilot.server.controls import Controls
from contextpilot.server.wire.shape import Shape

_MAX_REMEMBERED = 100_000


class Choice(NamedTuple):
    """How a group was written: order, ranks that stand as hints. No text is kept."""

    order: tuple[int, ...]
    hinted: frozenset[int]


class Choices:
    """How the groups of recent conversations were written, by the hash of all up to them.

    The next turn sends them again as the client knows them; written as before, the prompt keeps
    its cached prefix. Thread-safe.
    """

    def __init__(self, max_choices: int = _MAX_REMEMBERED) -> None:
        self._max = max_choices
        self._known: OrderedDict[bytes, Choice] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> Choice | None:
        """Return how a group was written before."""
        return self._known.get(key)

    def add(self, key: bytes, choice: Choice) -> None:
        """Remember how a group is written; the oldest goes when there are too many."""
        with self._lock:
            self._known[key] = choice
            self._known.move_to_end(key)
            if len(self._known) > self._max:
                self._known.popitem(last=False)


class GroupDraft:
    """A request with at least one group of blocks; the last group is planned.

    Groups before it are written as they were in earlier turns.
    """

    conversation: str | None = None

    def __init__(
        self,
        shape: Shape,
        body: Mapping[str, Any],
        extraction: Extraction,
        options: Options,
        reader: BlockReader,
        choices: Choices,
        namespace: str,
    ) -> None:
        self._shape = shape
        self._body = body
        self._extraction = extraction
        self._options = options
        self._choices = choices
        before = shape.unsearched(body)
        self._keys = _group_keys(namespace, before, extraction)
        self._hints = self._find_hints(reader)
        self._done = [self._as_before(number) for number in range(len(self._keys) - 1)]
        self._settled = choices.get(self._keys[-1])
        self.head = extraction.head(self._done, before or None)
        self.blocks = self._read(reader)
        self.bounds = options.bounds if self._settled is None else Bounds(enabled=False)
        self.saved_chars = 0

    @property
    def num_hinted(self) -> int:
        """Blocks that stand as reference hints."""
        return len(self._hints)

    def cuts(self, _: Planned) -> Sequence[int]:
        """Return none: the messages stay whole."""
        return ()

    def job(self, namespace: str) -> Job:
        """Return the job that plans the last group."""
        tail = self._extraction.tail_tokens()
        return Job(namespace, [self.blocks], self.bounds, self.head, [tail])

    def write(self, planned: Planned) -> dict[str, Any]:
        """Return the body with the blocks in the planned order."""
        order = planned.plan.order
        if self._settled is not None:
            order = tuple(self._settled.order[position] for position in order)
        self._choices.add(self._keys[-1], Choice(order, frozenset(self._hints)))
        last = Arrangement(order, self._hints, self._note(len(self._keys) - 1, order))
        messages = self._extraction.arrange([*self._done, last])
        if self._options.deduplicate:
            messages, self.saved_chars = deduplicated(messages)
        self.saved_chars += self._hint_savings()
        return self._shape.with_searched(self._body, messages)

    # -- reading ---------------------------------------------------------------------------------

    def _find_hints(self, reader: BlockReader) -> dict[int, str]:
        """Return by rank what stands for the blocks of the last group that the history holds."""
        group = self._extraction.last
        history = list(message_texts(self._extraction.messages[: int(group.path[0])]))
        if not self._options.deduplicate or not history:
            return {}
        contents = reader.read(group.contents)
        known = hints_for_history(contents, history, self._options.hint_template)
        return {rank: known[block.key] for rank, block in enumerate(contents) if block.key in known}

    def _read(self, reader: BlockReader) -> list[Block]:
        """Return the blocks to plan: in their settled order if they have one."""
        texts = self._extraction.last.texts
        blocks = reader.read(texts)
        for rank, hint in self._hints.items():
            key = content_key(f"{rank}\0{hint}")  # as Extraction.head names it in later turns
            blocks[rank] = Block(key, hint, estimate_tokens(hint), hint)
        settled = self._settled
        if settled is None or sorted(settled.order) != list(range(len(blocks))):
            self._settled = None
            return blocks
        return [blocks[rank] for rank in settled.order]

    def _as_before(self, number: int) -> Arrangement:
        """Return how a group of an earlier turn was written; as it stands when never planned."""
        group = self._extraction.groups[number]
        choice = self._choices.get(self._keys[number])
        if choice is None or len(choice.order) != len(group.texts):
            return Arrangement(range(len(group.texts)))
        template = self._options.hint_template
        hints = {rank: reference_hint(group.contents[rank], template) for rank in choice.hinted}
        return Arrangement(choice.order, hints, self._note(number, choice.order))

    def _note(self, number: int, order: Sequence[int]) -> str:
        group = self._extraction.groups[number]
        template = self._options.ranking_template
        if template is None or isinstance(group, PartsGroup) or group.kind == "json":
            return ""
        return group.legend(order) or annotate(order, template)

    def _hint_savings(self) -> int:
        contents = self._extraction.last.contents
        return sum(len(contents[rank]) - len(hint) for rank, hint in self._hints.items())


class RepeatsDraft:
    """A request without blocks to move, whose tool results repeat each other."""

    conversation: str | None = None
    blocks: Sequence[Block] = ()
    bounds = Bounds(enabled=False)
    num_hinted = 0

    def __init__(
        self, shape: Shape, body: Mapping[str, Any], messages: list[Any], saved_chars: int
    ) -> None:
        self._shape = shape
        self._body = body
        self._messages = messages
        self.saved_chars = saved_chars
        self.head = messages_head([*shape.unsearched(body), *messages])

    def cuts(self, _: Planned) -> Sequence[int]:
        """Return none: the messages stay whole."""
        return ()

    def job(self, namespace: str) -> Job:
        """Return a job without blocks: the messages are the head."""
        return Job(namespace, [()], self.bounds, self.head, [0])

    def write(self, _: Planned) -> dict[str, Any]:
        """Return the body with the repeats replaced."""
        return self._shape.with_searched(self._body, self._messages)


def found_draft(
    shape: Shape,
    body: Mapping[str, Any],
    controls: Controls,
    reader: BlockReader,
    options: Options,
    choices: Choices,
    namespace: str,
) -> GroupDraft | RepeatsDraft | None:
    """Look for blocks in the messages of a request; None when there is nothing to do."""
    messages = shape.searched(body)
    if controls.mode == "off" or not messages:
        return None
    # without a note on the numbers, citations are right only if the numbers move along
    labels = "stay" if options.ranking_template else "move"
    extraction = extract_blocks(messages, controls.mode, controls.scope, labels=labels)
    if extraction is not None:
        return GroupDraft(shape, body, extraction, options, reader, choices, namespace)
    if options.deduplicate:
        changed, saved_chars = deduplicated(messages)
        if saved_chars:
            return RepeatsDraft(shape, body, changed, saved_chars)
    return None


def deduplicated(messages: Sequence[Any]) -> tuple[list[Any], int]:
    """Return messages with repeated lines replaced, and the characters saved."""
    try:
        changed, report = deduplicate_messages(messages)
    except (TypeError, ValueError):  # of no known shape: the engine is to judge
        return list(messages), 0
    return changed, report.chars_saved


def messages_head(messages: Sequence[Message]) -> Head:
    """Return whole messages as a head of the index's paths."""
    keys = tuple(("message", messages_key([message])) for message in messages)
    return Head(keys, sum(estimate_tokens(text) for text in message_texts(messages)))


def saved_tokens(characters: int) -> int:
    """Estimate the tokens of characters that were saved."""
    return characters // CHARS_PER_TOKEN


def _group_keys(namespace: str, opening: list[Message], extraction: Extraction) -> list[bytes]:
    """Return for each group the hash of namespace and everything up to its message's end."""
    digest = hashlib.sha256(namespace.encode("utf-8", "replace"))
    digest.update(messages_key(opening))
    keys, at = [], 0
    for number, group in enumerate(extraction.groups):
        end = int(group.path[0]) + 1
        for message in extraction.messages[at:end]:
            digest.update(messages_key([message]))
        at = max(at, end)
        keys.append(digest.digest() + bytes([number % 256]))
    return keys

"""Blocks found in the messages of one request, and the messages with them in another order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from contextpilot.block import BlockKey, content_key, estimate_tokens
from contextpilot.dedup.shapes import with_texts
from contextpilot.plan.online import Head
from contextpilot.prompt.extract.group import Edit, Group, Path, edited
from contextpilot.prompt.extract.parts import PartsGroup
from contextpilot.prompt.extract.places import (
    ROLES,
    count_tokens,
)
from contextpilot.prompt.messages import messages_key

Mode: TypeAlias = Literal[
    "auto", "xml", "numbered", "json", "markdown", "separator", "parts", "tool"
]
MODES: tuple[Mode, ...] = get_args(Mode)
SCOPES = ("all", *ROLES)
_UNCHANGED: Mapping[int, str] = MappingProxyType({})


class Arrangement(NamedTuple):
    """How one group is written: the original rank at each position, new contents, a note."""

    order: Sequence[int]
    replacements: Mapping[int, str] = _UNCHANGED
    note: str = ""


@dataclass(frozen=True)
class Extraction:
    """Groups of blocks in chat messages, in prompt order; blocks move within their group only.

    A request with one group, as retrieval writes it, needs `texts` and `rebuild`. With several
    (earlier turns of a conversation, say), each is planned after those before it:

        done = []
        for group in extraction.groups:
            done.append(Arrangement(plan(group.texts, extraction.head(done))))
        messages = extraction.arrange(done)

    Attributes:
        messages: as given; never changed.
        groups: at least one.
    """

    messages: Sequence[Any]
    groups: tuple[Group | PartsGroup, ...] = field(default_factory=tuple)
    _known_keys: dict[int, bytes] = field(default_factory=dict, repr=False, compare=False)

    @property
    def last(self) -> Group | PartsGroup:
        """The group that `texts` and `rebuild` speak of: the newest."""
        return self.groups[-1]

    @property
    def texts(self) -> list[str]:
        """The blocks of the last group, in order: what identifies each, for the index."""
        return self.last.texts

    def rebuild(
        self,
        order: Sequence[int],
        replacements: Mapping[int, str] = _UNCHANGED,
        note: str = "",
    ) -> list[Any]:
        """Return the messages with the blocks of the last group in this order.

        Args:
            order: for each position the original rank of its block.
            replacements: by original rank, what stands for the content of a block.
            note: written after the blocks, as a paragraph of its own; parts take none.

        Raises:
            ValueError: `order` is no permutation, or a replacement names no block.
        """
        return self.arrange([*self._unchanged(), Arrangement(order, replacements, note)])

    def arrange(self, arrangements: Sequence[Arrangement]) -> list[Any]:
        """Return the messages with the first groups arranged so, and the others as they are."""
        lists: dict[Path, Any] = {}
        for group, given in zip(self.groups, arrangements, strict=False):
            _check(group, given)
            if isinstance(group, PartsGroup) and not _is_unchanged(given):
                items = lists.get(group.path) or at_path(self.messages, group.path)
                lists[group.path] = group.arranged(items, given.order, given.replacements)
        messages = with_texts(self.messages, lists)
        texts: dict[Path, Any] = {
            path: edited(at_path(messages, path), edits)
            for path, edits in self._edits(arrangements).items()
        }
        return with_texts(messages, texts)

    def head(self, arrangements: Sequence[Arrangement] | None = None, before: Any = None) -> Head:
        """Return what stands in the prompt before a group's first block, as keys of the index.

        Args:
            arrangements: of the groups before it; by default, that of the last group is wanted
                and those before it stay as they are.
            before: what else the engine writes before the messages: tools, say.
        """
        done = self._unchanged() if arrangements is None else list(arrangements)
        if len(done) >= len(self.groups):
            raise ValueError(f"arrangements must leave a group: there are {len(self.groups)}")
        messages, edits = self.arrange(done), self._edits(done)
        keys: list[BlockKey] = [] if before is None else [("before", messages_key([{"": before}]))]
        at, tokens, start = 0, count_tokens(before), None
        for group, given in zip(self.groups, [*done, None], strict=False):
            index = int(group.path[0])
            for i in range(at, index):
                keys.append(("message", self.message_key(i, messages[i])))
                tokens += count_tokens(messages[i])
            at = index
            start = self._start(messages[index], group, edits.get(group.path, ()))
            keys.append(("start", messages_key([start])))
            if given is not None:
                keys += [content_key(_text_of(group, given, rank)) for rank in given.order]
        return Head(tuple(keys), tokens + count_tokens(start))

    def message_key(self, index: int, message: Any) -> bytes:
        """Return the identity of a message as it is written; as given, it is worked out once."""
        if message is not self.messages[index]:
            return messages_key([message])
        known = self._known_keys.get(index)
        if known is None:
            known = self._known_keys[index] = messages_key([message])
        return known

    def _edits(self, arrangements: Sequence[Arrangement]) -> dict[Path, list[Edit]]:
        edits: dict[Path, list[Edit]] = {}
        for group, given in zip(self.groups, arrangements, strict=False):
            if isinstance(group, Group) and not _is_unchanged(given):
                edits.setdefault(group.path, []).extend(group.edits(*given))
        return edits

    def _start(self, message: Any, group: Group | PartsGroup, edits: Sequence[Edit]) -> Any:
        """Return a message as far as the start of a group."""
        if isinstance(group, Group):
            return _until(message, group.path[1:], edited(group.text, edits, group.head_end))
        items: Any = at_path([message], (0, *group.path[1:]))
        return _until(message, group.path[1:], list(items[: group.begin]))

    def tail_tokens(self, group: int = -1) -> int:
        """Estimate the prompt tokens after the last block of a group."""
        number = range(len(self.groups))[group]
        chosen = self.groups[number]
        own = sum(estimate_tokens(text) for text in chosen.texts)
        index = int(chosen.path[0])
        start = count_tokens(self._start(self.messages[index], chosen, ()))
        return max(0, sum(map(count_tokens, self.messages[index:])) - own - start)

    def legend(self, order: Sequence[int]) -> str:
        """Return the note that tells the original numbers of the last group's blocks.

        Empty where no numbers are shown that stay in place, and when nothing moved.
        """
        return self.last.legend(order) if isinstance(self.last, Group) else ""

    def _unchanged(self, number: int | None = None) -> list[Arrangement]:
        groups = self.groups[: len(self.groups) - 1 if number is None else number]
        return [Arrangement(range(len(group.texts))) for group in groups]


def _check(group: Group | PartsGroup, given: Arrangement) -> None:
    size = len(group.texts)
    if sorted(given.order) != list(range(size)):
        raise ValueError(f"order must be a permutation of 0 .. {size - 1}, not {given.order!r}")
    unknown = sorted(set(given.replacements) - set(range(size)))
    if unknown:
        raise ValueError(f"replacements must name ranks from 0 to {size - 1}, not {unknown[0]!r}")


def _is_unchanged(given: Arrangement) -> bool:
    return not given.replacements and list(given.order) == sorted(given.order)


def _text_of(group: Group | PartsGroup, given: Arrangement, rank: int) -> str:
    replaced = given.replacements.get(rank)
    return group.texts[rank] if replaced is None else f"{rank}\0{replaced}"


def at_path(messages: Sequence[Any], path: Path) -> Any:
    node: Any = messages
    for step in path:
        node = node[step]
    return node


def _until(node: Any, path: Path, end: Any) -> Any:
    """Return a copy of a message that ends with `end` at `path`."""
    if not path:
        return end
    step, rest = path[0], path[1:]
    if isinstance(step, int):
        return [*node[:step], _until(node[step], rest, end)]
    return {**node, step: _until(node[step], rest, end)}

"""What is told of the lists of blocks in a conversation: those that may move, and the others."""

from __future__ import annotations

from typing import NamedTuple

from contextpilot.prompt.extract import RULES, Looked


class BlockList(NamedTuple):
    """A list of blocks in the messages.

    Attributes:
        form: how its blocks are set off: xml, numbered, json, ...
        blocks: how many there are.
        why: code of the rule that lets it move, or that keeps it; docs/extraction.md has the table.
        words: the rule in plain words.
    """

    form: str
    blocks: int
    why: str
    words: str


class BlockLists(NamedTuple):
    """The lists of a request in prompt order: `found` may move, `left` stay."""

    found: tuple[BlockList, ...] = ()
    left: tuple[BlockList, ...] = ()


NO_LISTS = BlockLists()


def block_lists(looked: Looked) -> BlockLists:
    """Return what is told of the lists that were looked at; equal ones that stay are told once."""
    groups = looked.extraction.groups if looked.extraction is not None else ()
    found = [
        BlockList(group.kind, len(group.texts), group.why, _words(group.why)) for group in groups
    ]
    left = [BlockList(one.form, one.blocks, one.code, one.words) for one in looked.left]
    return BlockLists(tuple(found), tuple(dict.fromkeys(left)))


def _words(code: str) -> str:
    rule = RULES.get(code)
    return rule.words if rule is not None else ""

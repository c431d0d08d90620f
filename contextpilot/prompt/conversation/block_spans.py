"""Where the blocks of arranged groups stand in the texts of a prompt."""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from contextpilot.dedup.report import DedupReport
from contextpilot.dedup.shapes import Path, text_at, with_texts
from contextpilot.prompt.extract import Arrangement, Extraction, Group
from contextpilot.prompt.extract.parts import PartsGroup

_SPOKEN = ("system", "developer", "user")
_MARK = re.compile("\0([0-9]+):([0-9]+)\0")


class BlockSpans(NamedTuple):
    """Arranged messages, and by path the spans of their blocks and which block each is.

    `blocks[path][k]` are the group's number and the original rank of the block at `spans[path][k]`.
    """

    messages: list[Any]
    spans: dict[Path, list[tuple[int, int]]]
    blocks: dict[Path, list[tuple[int, int]]]

    def hints(self, report: DedupReport) -> dict[int, dict[int, str]]:
        """Return by group and rank what was written for blocks that the prompt held already."""
        hints: dict[int, dict[int, str]] = {}
        saved: Counter[Path] = Counter()
        for item in report.replacements:
            if item.path in self.spans:
                start = item.start + saved[item.path]
                saved[item.path] += item.saved
                at = bisect_right(self.spans[item.path], (start, sys.maxsize)) - 1
                number, rank = self.blocks[item.path][at]
                hints.setdefault(number, {})[rank] = item.reference
        return hints


def arranged_spans(extraction: Extraction, arrangements: Sequence[Arrangement]) -> BlockSpans:
    """Arrange groups, and tell where the blocks of those stand that system or user wrote.

    In a text that changes, each block is first written as a mark, which is then replaced by its
    content. A text without a change stays the object that it is.
    """
    groups = list(zip(extraction.groups, arrangements, strict=False))
    changed = {group.path for group, given in groups if not _is_as_given(given)}
    marked, spoken = [], []
    for number, (group, given) in enumerate(groups):
        is_spoken = _can_be_marked(extraction, number)
        if is_spoken and group.path in changed:
            marks = {rank: f"\0{number}:{rank}\0" for rank in given.order}
            given = given._replace(replacements=marks)
        elif is_spoken:
            spoken.append(number)
        marked.append(given)
    messages = extraction.arrange(marked)
    result = BlockSpans(messages, {}, {})
    for number in spoken:
        _note_as_given(extraction, number, result)
    texts = {}
    for path in _paths(extraction, marked):
        texts[path] = _filled(extraction, text_at(messages, path), path, result)
    return result._replace(messages=with_texts(messages, texts)) if texts else result


def _is_as_given(arrangement: Arrangement) -> bool:
    return not arrangement.replacements and list(arrangement.order) == sorted(arrangement.order)


def _note_as_given(extraction: Extraction, number: int, result: BlockSpans) -> None:
    """Note where the blocks of a group stand in a text that does not change."""
    group = extraction.groups[number]
    assert isinstance(group, Group)
    spans, blocks = _places(result, group.path)
    spans += [(piece.body.start, piece.body.end) for piece in group.pieces]
    blocks += [(number, rank) for rank in range(len(group.pieces))]


def _places(result: BlockSpans, path: Path) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    return result.spans.setdefault(path, []), result.blocks.setdefault(path, [])


def _can_be_marked(extraction: Extraction, number: int) -> bool:
    group = extraction.groups[number]
    if isinstance(group, PartsGroup) or group.kind == "json" or "\0" in group.text:
        return False
    if group.is_set:  # "trust this message": files are given anew, whatever was said before
        return False
    message = extraction.messages[int(group.path[0])]
    # content, or content[n].text: deeper lie the results of tools
    return message.get("role") in _SPOKEN and len(group.path) <= 4


def _paths(extraction: Extraction, marked: Sequence[Arrangement]) -> Iterable[Path]:
    groups = zip(extraction.groups, marked, strict=False)
    return dict.fromkeys(group.path for group, given in groups if given.replacements)


def _filled(extraction: Extraction, text: str, path: Path, result: BlockSpans) -> str:
    """Return a text with the blocks in place of their marks, and note where they stand."""
    spans, blocks = _places(result, path)
    pieces, at, length = [], 0, 0
    for mark in _MARK.finditer(text):
        number, rank = int(mark[1]), int(mark[2])
        content = extraction.groups[number].contents[rank]
        pieces += [text[at : mark.start()], content]
        begin = length + mark.start() - at
        length = begin + len(content)
        at = mark.end()
        spans.append((begin, length))
        blocks.append((number, rank))
    return "".join([*pieces, text[at:]])

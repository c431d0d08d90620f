"""Whether the labels of a list stand before their blocks: one after its block is the next one's.

A list is cut at its labels. Where these close a block (`text`, `[1]`), or each block has a heading
above its label, the cut parts a block from what names it; then the list stays.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from contextpilot.prompt.extract.group import Found
from contextpilot.prompt.extract.numbered import MIN_MEAN_CHARS
from contextpilot.prompt.extract.page import Page

_LABEL_CHARS, _HEADING_CHARS = 60, 100
_RULES = " \t\r\n-=*_#"
_SENTENCE_ENDS = ".!?。！？…,;"
_INTRO_ENDS = (":", "：", "]]")
_OPENING = re.compile(r"<[^/<>][^<>]*>|(?:.*[:：][ \t]*)?\"(?:\"\")?|.*[:：][ \t]*`{3}\w*")
_DIGITS = re.compile(r"\d+")
_FIELD = re.compile(r"[ \t>*-]{0,4}\**[A-Za-z][\w ]{0,24}\**[ \t]?:[ \t]*\**[ \t]*\S")


def labels_part(page: Page, found: Found) -> bool:
    """Return whether moving the blocks of a list may part them from their labels."""
    text = page.text
    blocks = [piece.span.of(text).strip() for piece in found.pieces]
    start = found.pieces[0].span.start
    above = _line_above(text, start)
    if not above or above.endswith(_INTRO_ENDS) or _OPENING.fullmatch(above):
        return False
    if found.kind == "numbered" and _lead_fields(text, found, blocks):
        return False
    is_loose = all("\n\n" in block[: 2 * _LABEL_CHARS] for block in blocks)
    is_near = is_loose or not _is_blank_above(text, start)
    if is_near and all(map(_is_label_alone, blocks)) and not page.intro(start).announced:
        return True
    if is_near and (field := _field_of(above)):
        return all(_field_of(_last_line(block)) == field for block in blocks[:-1])
    return _is_heading(above) and _end_in_headings(blocks)


def labels_alternate(blocks: Sequence[str]) -> bool:
    """Return whether every other block is no more than what names the one beside it."""
    for named, texts in ((blocks[::2], blocks[1::2]), (blocks[1::2], blocks[::2])):
        if texts and all(map(_is_name_alone, named)) and not any(map(_is_name_alone, texts)):
            return True
    return False


def _is_name_alone(block: str) -> bool:
    """Return whether a block is a heading, or fields of one line each and no text."""
    lines = block.split("\n")
    if len(lines) == 1 and len(block) < MIN_MEAN_CHARS and _is_heading(block):
        return True
    is_short = len(block) <= _HEADING_CHARS * len(lines)
    return is_short and all(_FIELD.match(line) for line in lines)


def _lead_fields(text: str, found: Found, blocks: Sequence[str]) -> bool:
    """Return whether a field follows each label, the list's last one, too."""
    heads = [block.split("\n", 2) for block in blocks]
    labels = {_DIGITS.sub("0", head[0]) for head in heads}
    after = text[found.pieces[-1].span.end :].lstrip().split("\n", 1)[0]
    is_whole = len(labels) == 1 and _DIGITS.sub("0", after) not in labels
    return is_whole and all(len(head) > 1 and _FIELD.match(head[1]) for head in heads)


def _line_above(text: str, start: int) -> str:
    """Return the last line before a place that is no rule."""
    lines = text[max(0, start - 4 * _HEADING_CHARS) : start].rstrip(_RULES).rsplit("\n", 1)
    return lines[-1].strip()


def _is_blank_above(text: str, start: int) -> bool:
    """Return whether a blank line or a rule stands right above a place."""
    lines = text[max(0, start - _HEADING_CHARS) : start].split("\n")
    return len(lines) > 1 and not lines[-2].strip(_RULES)


def _is_label_alone(block: str) -> bool:
    """Return whether the first line of a block is as short as a label, and no sentence."""
    line = block.split("\n", 1)[0].rstrip()
    return len(line) <= _LABEL_CHARS and not line.endswith(tuple(_SENTENCE_ENDS))


def _end_in_headings(blocks: Sequence[str]) -> bool:
    """Return whether all blocks but the last end with a line like a heading: the next one's."""
    return all("\n" in block and _is_heading(_last_line(block)) for block in blocks[:-1])


def _last_line(block: str) -> str:
    return block.rstrip(_RULES).rsplit("\n", 1)[-1].strip()


def _field_of(line: str) -> str:
    """Return the name of the field that a line holds; "" where it holds none."""
    return line.split(":", 1)[0].strip("*> -").lower() if _FIELD.match(line) else ""


def _is_heading(line: str) -> bool:
    is_short = 0 < len(line) <= _HEADING_CHARS
    return is_short and not line.endswith(tuple(_SENTENCE_ENDS)) and _FIELD.match(line) is None

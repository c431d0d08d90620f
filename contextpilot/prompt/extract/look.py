"""Which blocks of context chat messages hold, and which lists are left as they are."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from contextpilot.prompt.extract.evidence import Left
from contextpilot.prompt.extract.extraction import Extraction, at_path
from contextpilot.prompt.extract.find import Finding, find_groups
from contextpilot.prompt.extract.forged import holds_notes
from contextpilot.prompt.extract.group import LABELS, MAX_GROUPS, Group, Labels
from contextpilot.prompt.extract.image_group import ImagesGroup
from contextpilot.prompt.extract.memory import FindingMemory
from contextpilot.prompt.extract.named_order import count_by_name
from contextpilot.prompt.extract.numbered import WORDS
from contextpilot.prompt.extract.ordered import are_numbered_titles, sequence_reason
from contextpilot.prompt.extract.page import Page
from contextpilot.prompt.extract.parts import PartsGroup
from contextpilot.prompt.extract.places import (
    ROLES,
    ImagesPlace,
    PartsPlace,
    Role,
    TextPlace,
    find_places,
)
from contextpilot.prompt.extract.surroundings import Surroundings

Mode: TypeAlias = Literal[
    "auto", "xml", "numbered", "json", "markdown", "separator", "parts", "tool"
]
MODES: tuple[Mode, ...] = get_args(Mode)
SCOPES = ("all", *ROLES)
_NUMBER = re.compile(r"[A-Za-z][ \t]{1,3}(?:#|no\.? )?\[?(\d{1,4})\b")
_WORD_BEFORE = re.compile(rf"\b{WORDS}s?[ \t]{{1,3}}(?:#|no\.? )?\[?\Z", re.IGNORECASE)
_MENTION_CHARS = 24
_MIN_CHARS = 20
"""No shorter text holds two blocks."""
MAX_REQUEST_GROUPS = 256
"""Lists in one request, the first ones; what comes after them stays."""
_MIN_REQUEST_GROUPS = 8
_MAX_LOOKS = 1_000_000
"""Messages looked at for what they say of lists: each may be, once for each list."""
_MAX_MENTIONS = 5000


class Looked(NamedTuple):
    """What was found, None when no group may move; and the lists that stay, with the reason."""

    extraction: Extraction | None
    left: tuple[Left, ...]


def extract_blocks(
    messages: Sequence[Any],
    mode: str = "auto",
    scope: str | Collection[str] = "all",
    *,
    labels: str = "stay",
    separator: str | None = None,
) -> Extraction | None:
    """Find the blocks of context in chat messages of the OpenAI or Anthropic shape.

    `auto` takes only what is surely a list of independent documents: sibling elements of a
    document-like tag, `[1] ...` and `Document 1: ...` lists, `1. ...` after a line that announces
    documents, JSON search results of tools, rules (`---`) within a tool result or wrapper
    element, and runs of document parts. `tool` is the same within tool results alone. A last
    block whose end is unsure stays in place. The other modes look for one form, and are as sure as
    whoever names them. What the assistant said is never searched. A system prompt outside the
    messages is passed as a first message of the role `system`, a plain prompt as one of the role
    `user`.

    Numbers that only count positions are not part of a block, or the same document would be
    another text wherever it stands, and never hit. They stay in place, and `Extraction.legend`
    says which original number each stands for, so that citations can be told right; with labels
    "move" they go along with their blocks, which keeps every citation and costs hits. Ids that do
    not count positions always go along, and so do the numbers of blocks that the prompt itself
    speaks of by number: a bibliography, or a question for "document 3".

    Args:
        messages: of any shape; what is unknown is passed over.
        mode: one of `MODES`.
        scope: whose messages to search: "all", or one or more of "system", "user", "tool".
        labels: "stay" or "move".
        separator: the text between blocks, for the mode "separator"; default: any rule.

    Returns:
        None when there is no group of at least two blocks.

    Raises:
        ValueError: mode, scope, labels or separator are unknown; they are named.
    """
    return look(messages, mode, scope, labels=labels, separator=separator).extraction


def look(
    messages: Sequence[Any],
    mode: str = "auto",
    scope: str | Collection[str] = "all",
    *,
    labels: str = "stay",
    separator: str | None = None,
    opening: Sequence[Any] = (),
    counted: bool = False,
    kept: bool = False,
    memory: FindingMemory | None = None,
) -> Looked:
    """Find blocks as `extract_blocks` does, and say of other lists why they stay.

    Args:
        opening: messages before these that are not searched, but may speak of the blocks.
        counted: the answer is to name blocks by their place.
        kept: the prompt comes back with the answer, or is cut.
        memory: what was found in texts before.

    Raises:
        ValueError: mode, scope, labels or separator are unknown; they are named.
    """
    _check_options(mode, labels, separator)
    if mode == "tool":
        mode, scope = "auto", "tool"
    find = memory.find if memory is not None else find_groups
    chosen: Labels = "move" if labels == "move" else "stay"
    around = Surroundings(messages, opening, counted=counted)
    found: list[Group | PartsGroup] = []
    left: list[Left] = []
    lists: Counter[int] = Counter()
    most = min(MAX_REQUEST_GROUPS, _MIN_REQUEST_GROUPS + _MAX_LOOKS // (len(messages) or 1))
    for place in find_places(messages, _roles(scope)):
        if len(found) >= most:
            break
        before = len(found) + len(left)
        if lists[int(place.path[0])] > MAX_GROUPS:
            continue  # what else its message holds stays
        if isinstance(place, PartsPlace):
            if mode in ("auto", "parts"):
                _look_at_parts(messages, place, mode, found, left)
        elif isinstance(place, ImagesPlace):
            if mode in ("auto", "parts"):
                _look_at_images(messages, place, mode, found, left)
        elif len(place.text) >= _MIN_CHARS:
            _look_at_text(place, mode, separator, chosen, around, find, found, left)
        lists[int(place.path[0])] += len(found) + len(left) - before
    groups = _within_bounds(found, left)
    settled = [
        _settled(group, groups, around, mode, left) for own in groups.values() for group in own
    ]
    movable = tuple(group for group in settled if group is not None)
    if kept:
        left += [Left(group.kind, len(group.texts), "given-back") for group in movable]
    if kept or not movable:
        return Looked(None, tuple(left))
    return Looked(Extraction(messages, movable), tuple(left))


def _look_at_text(
    place: TextPlace,
    mode: str,
    separator: str | None,
    labels: Labels,
    around: Surroundings,
    find: Callable[[Page, str, str | None], Finding],
    found: list[Group | PartsGroup],
    left: list[Left],
) -> None:
    told = around.is_told(int(place.path[0]))
    page = Page(place.text, place.role, place.tool, told=told)
    finding = find(page, mode, separator)
    found += [Group(place.path, place.text, one, labels) for one in finding.found]
    left += finding.left


def _look_at_parts(
    messages: Sequence[Any],
    place: PartsPlace,
    mode: str,
    found: list[Group | PartsGroup],
    left: list[Left],
) -> None:
    parts = tuple(at_path(messages, place.path)[place.begin : place.end])
    code = "cited" if place.cited else ""
    if not code:
        group = PartsGroup(place.path, place.begin, parts)
        titles = [str(part.get("title") or part.get("source") or "") for part in parts]
        if mode == "auto":
            counted = "counted" if are_numbered_titles(titles) or count_by_name(titles) else ""
            forged = "forged" if holds_notes(group.contents) else ""
            code = counted or sequence_reason(group.contents) or forged
        if not code:
            found.append(group)
            return
    left.append(Left("parts", len(parts), code))


def _look_at_images(
    messages: Sequence[Any],
    place: ImagesPlace,
    mode: str,
    found: list[Group | PartsGroup],
    left: list[Left],
) -> None:
    run, code, why = place.run, "", "mode"
    if mode == "auto":
        why = "search-tool" if place.tool == "search" else "search-images"
        code = "" if place.tool == "search" or run.is_found else "no-evidence"
    code = "cited" if run.cited else code
    items = at_path(messages, place.path)
    group = ImagesGroup.of(place.path, run, items, why) if not code else None
    if group is not None and mode == "auto":
        counted = "counted" if are_numbered_titles(group.contents) else ""
        code = counted or sequence_reason(group.contents)
    if group is None or code:
        left.append(Left("images", len(run.pieces), code or "no-evidence"))
    else:
        found.append(group)


def _within_bounds(
    found: Sequence[Group | PartsGroup], left: list[Left]
) -> dict[int, list[Group | PartsGroup]]:
    """Return the groups by message, of those that hold no more than `MAX_GROUPS`."""
    by_message: dict[int, list[Group | PartsGroup]] = {}
    for group in found:
        by_message.setdefault(int(group.path[0]), []).append(group)
    for index, groups in list(by_message.items()):
        if len(groups) > MAX_GROUPS:
            left.append(Left(groups[0].kind, len(groups), "too-many"))
            del by_message[index]
    return by_message


def _settled(
    group: Group | PartsGroup,
    groups: Mapping[int, Sequence[Group | PartsGroup]],
    around: Surroundings,
    mode: str,
    left: list[Left],
) -> Group | PartsGroup | None:
    """Return the group as it may move; None, with the reason in `left`, where the prompt counts it.

    Where the caller named the form, numbers that the prompt speaks of go along with their blocks.
    """
    reason = around.reason(group, groups)
    if mode == "auto" and (reason or (reason := around.doubt(group, groups))):
        left.append(Left(group.kind, len(group.texts), reason))
        return None
    if isinstance(group, PartsGroup) or len(group.shown) < len(group.pieces):
        return group
    if mode == "auto" and _speak_of_each_other(group):
        left.append(Left(group.kind, len(group.texts), "number-asked"))
        return None
    return replace(group, labels="move") if reason else group


def _speak_of_each_other(group: Group) -> bool:
    """Return whether a block names another one by its number."""
    shown, text = set(group.shown), group.text
    begins = [piece.body.start for piece in group.pieces]
    for number, mention in enumerate(
        _NUMBER.finditer(text, group.start, group.pieces[-1].span.end)
    ):
        if number == _MAX_MENTIONS:
            return True
        if mention[1] not in shown:
            continue
        start = mention.start(1)
        at = bisect_right(begins, start) - 1
        inside = at >= 0 and start < group.pieces[at].body.end and mention[1] != group.shown[at]
        if inside and _WORD_BEFORE.search(text, max(begins[at], start - _MENTION_CHARS), start):
            return True
    return False


def _check_options(mode: str, labels: str, separator: str | None) -> None:
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
    if labels not in LABELS:
        raise ValueError(f"labels must be stay or move, not {labels!r}")
    if separator == "":
        raise ValueError("separator must not be empty")


def _roles(scope: str | Collection[str]) -> Collection[Role]:
    names = {scope} if isinstance(scope, str) else set(scope)
    unknown = sorted(names - set(SCOPES))
    if unknown or not names:
        raise ValueError(f"scope must be of {', '.join(SCOPES)}, not {scope!r}")
    return [role for role in ROLES if role in names or "all" in names]

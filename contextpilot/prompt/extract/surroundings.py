"""What stands around the blocks of a request: instructions before, questions after.

Texts that later turns cannot change count whole: a group's own message, the system's, the question
that asked for it. Of later questions only those that count the blocks do: then the order given
comes back, once, at the cost of what was cached behind it.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from contextpilot.prompt.extract.asks import Asks, read_asks
from contextpilot.prompt.extract.cues import tells
from contextpilot.prompt.extract.group import Group, Path
from contextpilot.prompt.extract.image_group import ImagesGroup
from contextpilot.prompt.extract.images import numbers_images, reads_images_through
from contextpilot.prompt.extract.parts import PartsGroup
from contextpilot.prompt.extract.places import is_observation, plain_texts
from contextpilot.prompt.extract.question import Question, question_in, read_question
from contextpilot.prompt.extract.tools import action_of, asked_words, calls

AnyGroup = Group | PartsGroup
_SYSTEM = ("system", "developer")
_MAX_SYSTEM = 16
_MAX_QUESTIONS = 8
_MAX_LATER = 64
_RESULT_DEPTH = 3
"""Paths within a tool's result are longer: message, content, part, its content."""
_CLOSED = ("xml", "json", "parts")
"""Lists whose last block ends with a mark of its own."""


class Surroundings:
    """The texts of messages, and what each asks for; every text is read once.

    Args:
        opening: what stands before the messages and is not searched: instructions, say.
        counted: the answer is to name blocks by their place.
    """

    def __init__(
        self, messages: Sequence[Any], opening: Sequence[Any] = (), *, counted: bool = False
    ) -> None:
        self._messages = messages
        self._is_counted = counted
        told = [text for one in opening if _role(one) in _SYSTEM for _, text in plain_texts(one)]
        self._opening = [read_asks(text) for text in told]
        self._is_told = any(map(tells, told))
        self._roles = [
            "tool" if is_observation(message) else _role(message) for message in messages
        ]
        self._asks: dict[int, list[tuple[Asks, bool]]] = {}
        self._texts: dict[int, list[tuple[str, bool]]] = {}
        self._system = [i for i, role in enumerate(self._roles) if role in _SYSTEM]
        self._counted: dict[str, int] | None = None
        self._asked: dict[int, list[Question]] = {}
        self._last_user = self._users_before()
        self._telling = next(
            (
                i
                for i, message in enumerate(messages)
                if self._roles[i] in _SYSTEM
                and any(tells(text) for _, text in plain_texts(message))
            ),
            len(messages),
        )

    def is_told(self, index: int) -> bool:
        """Return whether a system message before this one says that documents follow."""
        return self._is_told or index > self._telling

    def reason(self, group: AnyGroup, groups: Mapping[int, Sequence[AnyGroup]]) -> str:
        """Return the rule by which the prompt keeps a group as it is; "" if there is none.

        Args:
            groups: all groups, by the index of their message: what they hold asks for nothing.
        """
        if self._is_counted:
            return "order-asked"
        shown = shown_numbers(group)
        if isinstance(group, ImagesGroup):
            told = self._told_of_images(int(group.path[0]), groups)
            if any(map(numbers_images, told)):
                return "number-asked"
            if any(map(reads_images_through, told)):
                return "order-asked"
        for asks, after in self._around(int(group.path[0]), groups):
            reason = asks.reason(shown, len(group.texts), after=after)
            if reason:
                return reason
        return self._counted_later(int(group.path[0]), shown, groups)

    def _told_of_images(
        self, index: int, groups: Mapping[int, Sequence[AnyGroup]]
    ) -> Sequence[str]:
        """Return the texts around a message's images, and those of later turns."""
        spoken = [*self._stable(index), *range(index, len(self._messages))]
        return [*self._said([i for i in spoken if self._roles[i] in ("user", *_SYSTEM)], groups)]

    def doubt(self, group: AnyGroup, groups: Mapping[int, Sequence[AnyGroup]]) -> str:
        """Return the rule where a group's question may hang on the order; "" if it surely does not.

        Args:
            groups: all groups, by the index of their message.
        """
        if group.is_set:  # whoever asks was never shown an order
            return ""
        index = int(group.path[0])
        is_result = len(group.path) > _RESULT_DEPTH
        last_alone = group.kind not in _CLOSED
        asked = self._questions(index, groups, is_result=is_result, last_alone=last_alone)
        blocks = group.texts
        if any(read_question(text).speaks_of_order(blocks) for text in asked):
            return "question-unsure"
        later = islice((one for one in self._later(index, groups) if one.orders), _MAX_QUESTIONS)
        if any(one.counts_alone(blocks) for one in later):
            return "question-unsure"
        if not asked or group.kind in ("bullets", "images"):
            return ""  # neither memories nor images are told in the words of questions
        questions = [read_question(text) for text in asked]
        if is_result or self._roles[index] not in ("user", *_SYSTEM):
            # that a tool searched is evidence enough, unless the user speaks of what it returns
            if not any(question.metas for question in questions):
                return ""
            questions += map(read_question, self._queries(index))
        return "" if any(one.is_about(blocks) for one in questions) else "question-unsure"

    def _later(self, index: int, groups: Mapping[int, Sequence[AnyGroup]]) -> Iterator[Question]:
        """Yield what users ask after a message, where they give no documents of their own.

        The next messages count, not the last: what a turn brought back stays so.
        """
        for i in range(index + 1, min(len(self._roles), index + _MAX_LATER)):
            if self._roles[i] == "user" and i not in groups:
                if i not in self._asked:
                    said = (text for text, _ in self._texts_of(i, ()))
                    self._asked[i] = [read_question(question_in(text)) for text in said]
                yield from self._asked[i]

    def _questions(
        self,
        index: int,
        groups: Mapping[int, Sequence[AnyGroup]],
        *,
        is_result: bool,
        last_alone: bool,
    ) -> list[str]:
        """Return the question that the groups of a message are to answer; none if there is none.

        It is the same in every later turn, so that what stays is not moved by the next one.
        """
        texts: list[str] = []
        spoken: list[str] = []
        role = self._roles[index]
        if role in _SYSTEM:
            later = (i for i in range(index + 1, len(self._roles)) if self._roles[i] == "user")
            spoken += self._said(list(islice(later, 1)), groups)
        elif role == "user" and not is_result:
            own = self._texts_of(index, groups.get(index, ()))
            texts += [text for text, after in reversed(own) if after]
            texts += self._said([i for i in self._stable(index) if i > index], groups)
            texts += [g.text[: g.start] for g in groups[index] if isinstance(g, Group)][:1]
            texts += [text for text, after in reversed(own) if not after]
        if role not in _SYSTEM:
            spoken += self._said(self._users_of(index), groups)
        found = itertools.chain(
            (question_in(text, last_alone=last_alone) for text in texts),
            (question_in(text, spoken=True) for text in spoken),
        )
        return list(islice(filter(None, found), 1))

    def _said(self, indices: Sequence[int], groups: Mapping[int, Sequence[AnyGroup]]) -> list[str]:
        """Return the texts of messages, without the blocks in them."""
        return [text for i in indices for text, _ in self._texts_of(i, groups.get(i, ()))]

    def _users_of(self, index: int) -> list[int]:
        """Return the user's messages before one, the last first, as far as is looked."""
        found: list[int] = []
        at = self._last_user[index]
        while at >= 0 and len(found) < _MAX_QUESTIONS:
            found.append(at)
            at = self._last_user[at]
        return found

    def _queries(self, index: int) -> list[str]:
        """Return in what words the call asked whose result a message is."""
        for i in range(index - 1, max(-1, index - _MAX_QUESTIONS), -1):
            made = calls([self._messages[i]]).values() or filter(
                None, [action_of(self._messages[i])]
            )
            words = [asked_words(call) for call in made]
            if words:
                return words
        return []

    def _counted_later(
        self, index: int, shown: Collection[str], groups: Mapping[int, Sequence[AnyGroup]]
    ) -> str:
        """Return the rule by which a later question counts the blocks; "" if none does."""
        if self._counted is None:
            self._counted = self._last_counts(groups)
        counted = self._counted
        if counted.get("position", -1) > index:
            return "position-asked"
        named = any(counted.get(number, -1) > index for number in ("spelled", *shown))
        return "number-asked" if named else ""

    def _last_counts(self, groups: Mapping[int, Sequence[AnyGroup]]) -> dict[str, int]:
        """Return where users last spoke of a position, a spelled number, and each number."""
        found: dict[str, int] = {}
        for i, role in enumerate(self._roles):
            for asks, _ in self._of(i, ()) if role == "user" and i not in groups else ():
                found.update(dict.fromkeys(asks.numbers, i))
                found.update({"position": i} if asks.position else {})
                found.update({"spelled": i} if asks.spelled else {})
        return found

    def _around(
        self, index: int, groups: Mapping[int, Sequence[AnyGroup]]
    ) -> Iterator[tuple[Asks, bool]]:
        """Yield what is asked around a message's groups, and whether it stands after them."""
        yield from ((asks, False) for asks in self._opening)
        for i in self._stable(index):
            asked_of = i > index and self._roles[i] == "user"
            yield from ((asks, asked_of) for asks, _ in self._of(i, groups.get(i, ())))
        yield from self._of(index, groups.get(index, ()))

    def _stable(self, index: int) -> Iterator[int]:
        """Yield the other messages that belong to a group's: the same in every later turn."""
        roles = self._roles
        yield from (i for i in self._system[:_MAX_SYSTEM] if i < index)
        if roles[index] in _SYSTEM:
            after = range(index + 1, len(roles))
            yield from islice((i for i in after if roles[i] == "user"), 1)
        elif roles[index] == "user":
            for i in range(index + 1, len(roles)):
                if roles[i] != "user":
                    break
                yield i
        else:
            yield from (i for i in self._last_user[index : index + 1] if i >= 0)

    def _users_before(self) -> list[int]:
        """Return for each message the last user's before it; -1 where there is none."""
        found, last = [], -1
        for i, role in enumerate(self._roles):
            found.append(last)
            last = i if role == "user" else last
        return found

    def _of(self, index: int, groups: Sequence[AnyGroup]) -> list[tuple[Asks, bool]]:
        """Return what a message asks for, without the blocks in it; and what stands after them."""
        known = self._asks.get(index)
        if known is None:
            known = [(read_asks(text), after) for text, after in self._texts_of(index, groups)]
            self._asks[index] = known
        return known

    def _texts_of(self, index: int, groups: Sequence[AnyGroup]) -> list[tuple[str, bool]]:
        """Return what a message says beside its blocks, and whether that stands after them."""
        known = self._texts.get(index)
        if known is None:
            spans: dict[Any, list[Group]] = {}
            for group in groups:
                if isinstance(group, Group):
                    spans.setdefault(group.path[1:], []).append(group)
            known = []
            labels = {path for group in groups for path in _labels(group)}
            for path, text in plain_texts(self._messages[index]):
                if path in labels:
                    continue
                before, after = _split(text, spans.get(path, ()))
                known += [(before, False)] if before else []
                known += [(after, bool(groups))] if after else []
            self._texts[index] = known
        return known


def shown_numbers(group: AnyGroup) -> Collection[str]:
    """Return the numbers by which a prompt may mean the blocks of a group."""
    places = {str(place) for place in range(len(group.texts) + 1)}
    return places.union(group.shown) if isinstance(group, Group) else places


def _labels(group: AnyGroup) -> Iterator[Path]:
    """Yield where the texts of an image group stand in its message."""
    if isinstance(group, ImagesGroup):
        places = range(group.begin, group.begin + len(group.parts))
        yield from ((*group.path[1:], at, "text") for at in places)


def _split(text: str, groups: Sequence[Group]) -> tuple[str, str]:
    """Return what stands before and between the blocks of a text, and what stands after them."""
    kept, at = [], 0
    for group in groups:
        example = group.found.example
        kept.append(text[at : group.start if example is None else max(at, example)])
        at = group.pieces[-1].span.end
    return "\n".join(kept), text[at:]


def _role(message: Any) -> Any:
    role = message.get("role") if isinstance(message, (dict, Mapping)) else None
    return role if isinstance(role, str) else None

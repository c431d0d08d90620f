"""Where the question of a request stands: the text that blocks handed over are put in front of.

It is the last user message that has a text of the user's own. Neither what the assistant is to go
on from (a prefill) nor what a tool answered is ever written into.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from contextpilot.prompt.messages import Message

_TEXT_PARTS = (None, "text", "input_text")


class Question(NamedTuple):
    """A user message's text: of `part`, or the whole content where that is None."""

    at: int
    message: Message
    part: int | None

    @property
    def text(self) -> str:
        """The text."""
        content = self.message["content"]
        text: str = content if self.part is None else content[self.part]["text"]
        return text

    @property
    def parts_before(self) -> list[Message]:
        """What the prompt holds before the text within this message, as a message."""
        if not self.part:
            return []
        return [{**self.message, "content": self.message["content"][: self.part]}]

    def rewritten(self, text: str) -> Message:
        """Return the message with another text."""
        if self.part is None:
            return {**self.message, "content": text}
        parts = list(self.message["content"])
        parts[self.part] = {**parts[self.part], "text": text}
        return {**self.message, "content": parts}


def find_question(turns: Sequence[Message]) -> Question | None:
    """Return the last text of the user's own; None when there is none."""
    for at in reversed(range(len(turns))):
        message = turns[at]
        if message.get("role") != "user":
            continue
        content = message.get("content")
        if isinstance(content, str):
            return Question(at, message, None)
        part = _text_part(content)
        if part is not None:
            return Question(at, message, part)
    return None


def end_of_turns(body: Mapping[str, Any], turns: Sequence[Message]) -> int:
    """Return where a new user message goes: before what the assistant is to go on from."""
    is_prefilled = body.get("continue_final_message") is True and bool(turns)
    return len(turns) - (is_prefilled and turns[-1].get("role") == "assistant")


def _text_part(content: Any) -> int | None:
    """Return the place of the last part that is a text."""
    if not isinstance(content, list):
        return None
    texts = [
        place
        for place, part in enumerate(content)
        if isinstance(part, Mapping)
        and isinstance(part.get("text"), str)
        and part.get("type") in _TEXT_PARTS
    ]
    return texts[-1] if texts else None

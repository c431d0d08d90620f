"""Text at the head of a prompt that changes with every request, and so keeps it from hitting.

It is reported, never changed: only the caller knows what it is for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from contextpilot.prompt.messages import Message, message_texts

_HEAD_CHARS = 4096
_KINDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("uuid", re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b")),
    ("timestamp", re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?")),
    ("time", re.compile(r"(?<![\d:])(?:[01]?\d|2[0-3]):[0-5]\d:[0-5]\d(?![\d:])")),
    ("epoch", re.compile(r"(?<![\d.])1[6-9]\d{8}(?:\d{3})?(?![\d.])")),
    ("nonce", re.compile(r"\b(?:nonce|cch|request[-_]id|trace[-_]id)\s*[=:]\s*[\w-]{4,}", re.I)),
    ("hex", re.compile(r"\b(?=[0-9a-f]*[a-f])(?=[0-9a-f]*\d)[0-9a-f]{32,64}\b")),
)


def volatile_kinds(messages: Sequence[Message]) -> tuple[str, ...]:
    """Return the kinds of volatile text within the first characters of the prompt."""
    head = _opening_text(message_texts(messages))
    return tuple(kind for kind, pattern in _KINDS if pattern.search(head))


def _opening_text(texts: Iterable[str]) -> str:
    head = ""
    for text in texts:
        head += text[: _HEAD_CHARS - len(head)] + "\n"
        if len(head) >= _HEAD_CHARS:
            break
    return head

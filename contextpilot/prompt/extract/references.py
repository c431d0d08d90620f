"""Whether a prompt speaks of its documents by number: then each must keep its own.

A bibliography is cited by the paper before it, and a question may ask for "document 3". What only
shows how to cite ("like [1]") does not count.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from contextpilot.prompt.extract.numbered import WORDS

_MENTION = re.compile(
    rf"\[(\d{{1,4}})\](?!\()|\b{WORDS}s?[ \t]*(?:#|no\.?[ \t]*|number[ \t]+)?\[?(\d{{1,4}})\b",
    re.IGNORECASE,
)
_EXAMPLE = re.compile(
    r"(?:like|such as|e\.g\.,?|example|format|using|style|notation|with|as|form)[^\w\[\]]{0,12}$",
    re.IGNORECASE,
)
_EXAMPLE_CHARS = 32
_CHAIN_CHARS = 6


def names_numbers(text: str, numbers: Collection[str]) -> bool:
    """Return whether a text names one of these numbers as a document, other than as an example."""
    example_end = -_CHAIN_CHARS - 1
    for mention in _MENTION.finditer(text):
        start = mention.start()
        before = text[max(0, start - _EXAMPLE_CHARS) : start]
        if start - example_end <= _CHAIN_CHARS or _EXAMPLE.search(before):
            example_end = mention.end()
        elif (mention[1] or mention[2]) in numbers:
            return True
    return False

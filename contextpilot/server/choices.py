"""How groups of blocks were written in earlier turns of conversations."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence

from contextpilot.prompt.extract import Extraction
from contextpilot.prompt.messages import Message, messages_key

_MAX_REMEMBERED = 100_000

Order = tuple[int, ...]


class Choices:
    """The orders in which the groups of recent conversations were written, by their keys.

    The next turn sends them again as the client knows them; written as before, the prompt keeps
    its cached prefix. No text is kept. Thread-safe.
    """

    def __init__(self, max_choices: int = _MAX_REMEMBERED) -> None:
        self._max = max_choices
        self._known: OrderedDict[bytes, Order] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> Order | None:
        """Return how a group was written before."""
        return self._known.get(key)

    def add(self, key: bytes, order: Order) -> None:
        """Remember how a group is written; the oldest goes when there are too many."""
        with self._lock:
            self._known[key] = order
            self._known.move_to_end(key)
            if len(self._known) > self._max:
                self._known.popitem(last=False)


def group_keys(namespace: str, opening: Sequence[Message], extraction: Extraction) -> list[bytes]:
    """Return for each group the hash of namespace and everything up to its message's end."""
    digest = hashlib.sha256(namespace.encode("utf-8", "replace"))
    digest.update(messages_key(opening))
    keys, at = [], 0
    for number, group in enumerate(extraction.groups):
        end = int(group.path[0]) + 1
        for message in extraction.messages[at:end]:
            digest.update(messages_key([message]))
        at = max(at, end)
        keys.append(digest.digest() + number.to_bytes(4, "big"))
    return keys

"""How groups of blocks were written in earlier turns of conversations."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from contextpilot.prompt.extract.extraction import Arrangement
from contextpilot.prompt.messages import Message, messages_key

if TYPE_CHECKING:
    from contextpilot.prompt.extract import Extraction, Group
    from contextpilot.prompt.extract.parts import PartsGroup

MAX_ORDERS = 100_000
MAX_RANKS = 4_000_000
"""Of all orders together; a rank takes 8 to 36 bytes."""
_KEY_BYTES = 16
"""Of the hash of whose an order is, and of the hash of the content."""

Order = tuple[int, ...]


class GroupKeys(NamedTuple):
    """What a group is known by: its owner's key, and that of the session if one is told."""

    own: bytes
    session: bytes | None


class WrittenOrders:
    """The orders in which the groups of recent conversations were written, by their keys.

    The next turn sends them again as the client knows them; written as before, the prompt keeps
    its cached prefix. No text is kept. Thread-safe.

    Args:
        max_orders: the oldest go when there are more.
        max_ranks: the same of their ranks; one order alone is always kept.
        keep: told each new order, to write it down; it must not wait.
    """

    def __init__(
        self,
        max_orders: int = MAX_ORDERS,
        keep: Callable[[bytes, Order], None] | None = None,
        max_ranks: int = MAX_RANKS,
    ) -> None:
        self._max = max_orders
        self._max_ranks = max_ranks
        self._num_ranks = 0
        self._keep = keep
        self._known: OrderedDict[bytes, Order] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, keys: GroupKeys) -> Order | None:
        """Return how a group was written before."""
        order = self._known.get(keys.own)
        if order is None and keys.session is not None:
            order = self._known.get(keys.session)
        return order

    def add(self, keys: GroupKeys, order: Order) -> None:
        """Remember how a group is written."""
        for key in keys:
            if key is not None:
                self._add(key, order)

    def forget(self, name: str | None = None) -> None:
        """Forget what was written in a namespace or a session, or everything."""
        with self._lock:
            own = _owner(name) if name is not None else b""
            for key in [key for key in self._known if key.startswith(own)]:
                self._num_ranks -= len(self._known.pop(key))

    def restore(self, known: Iterable[tuple[bytes, Order]]) -> None:
        """Take over orders that were written down, oldest first; newer ones win."""
        with self._lock:
            newer, self._known = self._known, OrderedDict(known)
            self._known.update(newer)
            self._num_ranks = sum(map(len, self._known.values()))
            self._shorten()

    def _add(self, key: bytes, order: Order) -> None:
        with self._lock:
            before = self._known.get(key)
            is_new = before != order
            self._num_ranks += len(order) - len(before or ())
            self._known[key] = order
            self._known.move_to_end(key)
            self._shorten()
        if is_new and self._keep is not None:
            self._keep(key, order)

    def _shorten(self) -> None:
        while len(self._known) > self._max or (
            self._num_ranks > self._max_ranks and len(self._known) > 1
        ):
            self._num_ranks -= len(self._known.popitem(last=False)[1])


def known_order(group: Group | PartsGroup) -> Order:
    """Return the order in which a group is known: as given, or, of a set, sorted by content."""
    ranks = range(len(group.texts))
    return tuple(sorted(ranks, key=group.texts.__getitem__) if group.is_set else ranks)


def group_keys(
    namespace: str, session: str | None, opening: Sequence[Message], extraction: Extraction
) -> list[GroupKeys]:
    """Return for each group the hashes of whose it is and everything up to its message's end.

    Sets count in the order in which they are known.
    """
    digest = hashlib.sha256(messages_key(opening))
    keys, at, messages = [], 0, _as_known(extraction)
    for number, group in enumerate(extraction.groups):
        end = int(group.path[0]) + 1
        for index in range(at, end):
            digest.update(extraction.message_key(index, messages[index]))
        at = max(at, end)
        content = digest.digest() + number.to_bytes(4, "big")
        told = None if session is None else _key(session, content)
        keys.append(GroupKeys(_key(namespace, content), told))
    return keys


def _as_known(extraction: Extraction) -> Sequence[Message]:
    if not any(group.is_set for group in extraction.groups):
        return extraction.messages
    return extraction.arrange([Arrangement(known_order(group)) for group in extraction.groups])


def _key(name: str, content: bytes) -> bytes:
    return _owner(name) + hashlib.sha256(content).digest()[:_KEY_BYTES]


def _owner(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:_KEY_BYTES]

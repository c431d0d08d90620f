"""What is the same however an SGLang tree is followed: its requests, and when to start over."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from .ids import find_request_id
from .steps import Admitted, StepLedger


class CacheWatch:
    """Follows one prefix cache on the scheduler's thread and tells its ledger. Not thread-safe.

    salted: the tree keeps requests of different `cache_salt` apart by that field.
    """

    def __init__(self, ledger: StepLedger, salted: bool) -> None:
        self._ledger = ledger
        self._salted = salted
        self._max_tokens = ledger.max_tokens
        self._gone: list[Hashable] = []
        self._following = False  # without a request of ours there is nobody to tell of

    def admit(self, request: Any) -> None:
        """A request entered the queue; only those with our id are followed."""
        name = find_request_id(request.rid)
        if name is None:
            return
        self._following = True
        namespace = self._namespace(request)
        self._hand_over(Admitted(name, request.origin_input_ids, namespace))

    def evicted(self, node: Hashable) -> None:
        """A leaf is about to leave the tree, with all that it has; `settle` follows."""
        self._gone.append(node)

    @property
    def pending(self) -> int:
        """Nodes told to `evicted` since the last `settle`."""
        return len(self._gone)

    def settle(self) -> None:
        """Find out what is left of the paths from which something went."""
        raise NotImplementedError

    def reset(self) -> None:
        """The whole tree was dropped."""
        self._forget()
        self._ledger.clear()

    def lose(self) -> None:
        """A change may have been missed: nothing is followed any more."""
        self._forget()
        self._ledger.lose()

    def _forget(self) -> None:
        """Keep nothing of the tree."""
        self._gone.clear()

    def _hand_over(self, step: Any) -> None:
        if not self._ledger.hand_over(step):
            self._forget()

    def _namespace(self, owner: Any) -> Hashable:
        """What the tokens of a request or key are the same in."""
        extra = getattr(owner, "extra_key", None)
        if not self._salted:
            return extra
        return extra, getattr(owner, "cache_salt", None) or None

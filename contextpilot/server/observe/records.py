"""What is remembered of recent requests, without a word of their prompts."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from contextpilot.block import Block, content_key
from contextpilot.explain import Explanation
from contextpilot.plan.online import Plan
from contextpilot.planning import Planned

_MAX_RECORDS = 10_000


@dataclass
class Record:
    """One request, from its plan to its answer.

    Attributes:
        api: the API spoken: chat, completions, responses, messages, or the index API's path.
        engine: name of the engine in the pool; None for the index API.
        explanation: why it was expected to hit or miss; names blocks by place and hash only.
        volatile: kinds of text at the head of the prompt that change with every request.
        found, left: which lists were found in its messages, which stay as they are, and why, by
            the rules of `prompt.extract.evidence`, as the answer's header tells.
        started: seconds since the epoch.
        prompt_tokens, cached_tokens: as the engine counted them; None when it did not say.
        waited_s: seconds in the line of requests that wait for an engine.
        first_byte_s, total_s: seconds until the first byte, and the last, of the answer's body.
    """

    api: str
    explanation: Explanation
    engine: str | None = None
    volatile: tuple[str, ...] = ()
    found: Sequence[Mapping[str, Any]] = ()
    left: Sequence[Mapping[str, Any]] = ()
    started: float = field(default_factory=time.time)
    status: int | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    waited_s: float | None = None
    first_byte_s: float | None = None
    total_s: float | None = None

    @property
    def request_id(self) -> str:
        """The id under which index and engine know the request."""
        return self.explanation.request_id

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, flat, ready for JSON."""
        content = dict(vars(self))
        explanation: Explanation = content.pop("explanation")
        return vars(explanation) | content


class Records:
    """The most recent requests, bounded. Thread-safe.

    Attributes:
        added: how many there ever were, by API.
    """

    def __init__(self, max_records: int = _MAX_RECORDS) -> None:
        self._max = max_records
        self._known: OrderedDict[str, Record] = OrderedDict()
        self.added: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def add(self, record: Record) -> None:
        """Remember a request; the oldest goes when there are too many."""
        with self._lock:
            self._known[record.request_id] = record
            self.added[record.api] += 1
            if len(self._known) > self._max:
                self._known.popitem(last=False)

    def get(self, request_id: str) -> Record | None:
        """Return what is remembered of a request."""
        return self._known.get(request_id)

    def latest(self, limit: int) -> list[Record]:
        """Return up to `limit` requests, the newest first."""
        with self._lock:
            newest = reversed(self._known.values())
            return [record for _, record in zip(range(limit), newest, strict=False)]

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._known.clear()


def without_text(planned: Planned, blocks: Sequence[Block]) -> Explanation:
    """Return the explanation of a plan with its first miss named by place and hash."""
    return replace(planned.explanation, first_miss=_place(blocks, planned.plan))


def _place(blocks: Sequence[Block], plan: Plan) -> str | None:
    ranks = {blocks[rank].key: rank for rank in reversed(plan.order)}
    ordered = list(dict.fromkeys(blocks[rank].key for rank in plan.order))
    if plan.num_live >= len(ordered):
        return None
    key = ordered[plan.num_live]
    name = (key if isinstance(key, bytes) else content_key(repr(key))).hex()[:12]
    return f"block {plan.num_live + 1} in the prompt, given as {ranks[key] + 1}, hash {name}"

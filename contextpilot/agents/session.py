"""What an agent's session sent, and what of it was saved: counts and hashes, no text."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from contextpilot.agents.continuation import Continuations, Part, is_first_prompt, parts_of
from contextpilot.server.proxy.outcome import Answered

logger = logging.getLogger(__name__)

FORMAT = 1
"""Of what `as_dict` returns."""


@dataclass
class Side:
    """The prompts of a session as the agent wrote them, or as they were sent.

    Attributes:
        chars: of all prompts; what is counted is their JSON.
        last_chars: of the longest prompt, an agent's last as a rule.
    """

    chars: int = 0
    last_chars: int = 0
    continuations: Continuations = field(default_factory=Continuations)

    def note(self, parts: Sequence[Part], is_first: bool) -> None:
        """Count one prompt."""
        chars = sum(len(part.text) for part in parts)
        self.chars += chars
        self.last_chars = max(self.last_chars, chars)
        self.continuations.note(parts, is_first)

    def as_dict(self) -> dict[str, Any]:
        """Return the counts, ready for JSON."""
        told = self.continuations
        breaks = Counter(told.breaks)
        return {
            "chars": self.chars,
            "longest_prompt_chars": self.last_chars,
            "continuing": told.continuing,
            "broken": len(told.breaks),
            "breaks": [
                {"place": place, "volatile": kinds, "count": count}
                for (place, kinds), count in breaks.most_common()
            ],
        }


class Session:
    """The requests of one agent; an observer of the proxy. Thread-safe.

    Attributes:
        given, sent: the prompts as the agent wrote them, and as they went on.
        prompt_tokens, cached_tokens: as the provider counted them, of the requests that it told.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started = time.time()
        self.num_requests = 0
        self.num_planned = 0
        self.num_failed = 0
        self.num_counted = 0
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.given, self.sent = Side(), Side()

    def __call__(self, answered: Answered) -> None:
        """Count a request that was answered; what cannot be counted is left out."""
        try:
            with self._lock:
                self._count(answered)
        except Exception as error:  # the agent's session goes on
            logger.warning("a request was not counted: %s", type(error).__name__)

    def _count(self, answered: Answered) -> None:
        self.num_requests += 1
        self.num_planned += answered.outcome.get("status") == "planned"
        self.num_failed += answered.status is None or answered.status >= 400
        prompt, cached = answered.usage
        if prompt is not None:
            self.num_counted += 1
            self.prompt_tokens += prompt
            self.cached_tokens += cached or 0
        shape, given = answered.request.shape, answered.request.parsed
        if shape is None:
            return
        sent: Mapping[str, Any] = given
        if answered.sent is not answered.request.body:
            sent = json.loads(answered.sent)
        is_first = is_first_prompt(shape, given)
        self.given.note(parts_of(shape, given), is_first)
        self.sent.note(parts_of(shape, sent), is_first)

    def as_dict(self, program: str) -> dict[str, Any]:
        """Return the session, ready for JSON.

        Args:
            program: the agent's name.
        """
        with self._lock:
            return {
                "format": FORMAT,
                "program": program,
                "started": round(self._started, 3),
                "requests": self.num_requests,
                "planned": self.num_planned,
                "failed": self.num_failed,
                "counted": self.num_counted,
                "prompt_tokens": self.prompt_tokens,
                "cached_tokens": self.cached_tokens,
                "given": self.given.as_dict(),
                "sent": self.sent.as_dict(),
            }

"""Prompts on their way to an engine in this process: their ids, and what answers tell of them.

The hooks wrap the OpenAI client and share no code with this package, so they are only asked to.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from contextpilot.block import estimate_tokens
from contextpilot.namespace import Namespace, Namespaces
from contextpilot.planning import Job
from contextpilot.prompt.messages import Messages

if TYPE_CHECKING:
    from contextpilot.kv_listening import KvListening

logger = logging.getLogger(__name__)


class SentPrompts:
    """Lets the OpenAI client send the ids of prompts, now or once it is imported.

    Args:
        namespaces: where the requests are planned, and learn what the engine counted.
        followed_by: is told of each call that sends a planned prompt.
    """

    def __init__(self, namespaces: Namespaces, followed_by: KvListening | None = None) -> None:
        self._register: Callable[..., None] | None = None
        self._place = object()  # ids of one instance are unknown to another
        self._namespaces = weakref.ref(namespaces)
        self._followed_by = weakref.ref(followed_by) if followed_by is not None else None
        try:
            import_module("contextpilot_hooks.openai").install()
            self._register = import_module("contextpilot_hooks.prompts").PROMPTS.register
        except ImportError:
            logger.info(
                "contextpilot_hooks is not installed: send messages.request_id as X-Request-Id"
            )

    def follow(self, job: Job, messages: Messages) -> None:
        """Let the id of a planned prompt be found again when a caller rebuilds its messages."""
        text = messages[-1]["content"]
        if self._register is not None and isinstance(text, str):  # parts may be another prompt's
            place = (self._place, job.namespace, job.head.keys)
            listener = _Listener(self._namespaces, job.head.tokens, self._followed_by)
            self._register(text, messages.plan_id, place, listener)


def is_planned(prompt: object) -> bool:
    """Return whether a prompt for the OpenAI client was planned here, however it was rebuilt."""
    try:
        found = import_module("contextpilot_hooks.prompts").PROMPTS.find(prompt)
    except ImportError:
        return False
    return found is not None


class _Listener:
    """Learns how one prompt was sent and answered; keeps alive nothing of its instance."""

    __slots__ = ("_followed_by", "_head_tokens", "_namespaces")

    def __init__(
        self,
        namespaces: weakref.ref[Namespaces],
        head_tokens: int,
        followed_by: weakref.ref[KvListening] | None,
    ) -> None:
        self._namespaces = namespaces
        self._head_tokens = head_tokens
        self._followed_by = followed_by

    def called(self, request_id: str, call: Mapping[str, Any]) -> None:
        """Follow the prompt of a call by the engine's KV events."""
        follower = self._followed_by() if self._followed_by is not None else None
        if follower is not None:
            follower.sent(request_id, call)

    def sent(self, request_id: str, before: list[str]) -> None:
        """Correct where the blocks of a prompt end that was sent with more in front of it."""
        ahead = sum(map(estimate_tokens, before)) - self._head_tokens
        space = self._space(request_id)
        if ahead > 0 and space is not None:
            with space.lock:
                space.index.put_ahead(request_id, ahead)
                space.tokens.put_ahead(request_id, ahead)

    def counted(self, request_id: str, prompt_tokens: int) -> None:
        """Learn what a token weighs."""
        space = self._space(request_id)
        if space is not None:
            with space.lock:
                space.tokens.count(request_id, prompt_tokens)

    def _space(self, request_id: str) -> Namespace | None:
        namespaces = self._namespaces()
        return namespaces.owner(request_id) if namespaces is not None else None

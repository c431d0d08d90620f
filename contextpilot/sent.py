"""Prompts on their way to an engine in this process: their ids, and what answers tell of them.

The hooks wrap the OpenAI client and share no code with this package, so they are only asked to.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from importlib import import_module

from contextpilot.namespace import Namespaces
from contextpilot.planning import Job
from contextpilot.prompt.messages import Messages

logger = logging.getLogger(__name__)


class SentPrompts:
    """Lets the OpenAI client send the ids of prompts, now or once it is imported.

    Args:
        namespaces: where the requests are planned, and learn what the engine counted.
    """

    def __init__(self, namespaces: Namespaces) -> None:
        self._register: Callable[..., None] | None = None
        self._place = object()  # ids of one instance are unknown to another
        self._count = _counter(namespaces)
        try:
            import_module("contextpilot_hooks.openai").install()
            self._register = import_module("contextpilot_hooks.prompts").PROMPTS.register
        except ImportError:
            logger.info("contextpilot_hooks is absent: send messages.request_id as X-Request-Id")

    def follow(self, job: Job, messages: Messages) -> None:
        """Let the id of a planned prompt be found again when a caller rebuilds its messages."""
        if self._register is not None:
            place = (self._place, job.namespace, job.head.keys)
            self._register(messages[-1]["content"], messages.plan_id, place, self._count)


def _counter(namespaces: Namespaces) -> Callable[[str, int], None]:
    """Return what takes the prompt tokens that an answer told; it keeps nothing alive."""
    known = weakref.ref(namespaces)

    def count(request_id: str, prompt_tokens: int) -> None:
        living = known()
        space = living.owner(request_id) if living is not None else None
        if space is not None:
            with space.lock:
                space.tokens.count(request_id, prompt_tokens)

    return count

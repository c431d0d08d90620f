"""The process-wide instance behind `contextpilot.optimize` and `contextpilot.optimize_batch`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

from contextpilot.options import CallOptions
from contextpilot.pilot import ContextPilot
from contextpilot.prompt.messages import Message, Messages

if TYPE_CHECKING:
    from typing_extensions import Unpack

_LOCK = Lock()


class _BatchArguments(CallOptions, total=False):
    system_instruction: str | None
    namespace: str | None


class _OptimizeArguments(_BatchArguments, total=False):
    conversation_id: str | None
    history: Sequence[Message] | None


@lru_cache(maxsize=1)
def _made() -> ContextPilot:
    return ContextPilot()


def default_pilot() -> ContextPilot:
    """Return the one instance that the module-level functions share."""
    with _LOCK:  # threads that come first together would each make one
        return _made()


def drop_default_pilot() -> None:
    """Let the next call make a new instance."""
    with _LOCK:
        _made.cache_clear()


def optimize(
    contexts: Sequence[Any], query: str, **options: Unpack[_OptimizeArguments]
) -> Messages:
    """Call `ContextPilot.optimize` on the process-wide instance."""
    return default_pilot().optimize(contexts, query, **options)


def optimize_batch(
    all_contexts: Sequence[Sequence[Any]],
    queries: Sequence[str],
    **options: Unpack[_BatchArguments],
) -> tuple[list[Messages], list[int]]:
    """Call `ContextPilot.optimize_batch` on the process-wide instance."""
    return default_pilot().optimize_batch(all_contexts, queries, **options)

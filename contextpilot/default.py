"""The process-wide instance behind `contextpilot.optimize`, `optimize_batch` and `rewrite`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

from contextpilot.pilot import ContextPilot
from contextpilot.prompt.messages import Messages
from contextpilot.renamed import renamed

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from contextpilot.arguments import BatchArguments, OptimizeArguments, RewriteArguments
    from contextpilot.prompt.conversation.rewritten import Rewritten

_LOCK = Lock()


@lru_cache(maxsize=1)
def _made() -> ContextPilot:
    return ContextPilot()


def default_pilot() -> ContextPilot:
    """Return the one instance that the module-level functions share."""
    with _LOCK:  # threads that come first together would each make one
        return _made()


def drop_default_pilot() -> None:
    """Make the next call create a new instance."""
    with _LOCK:
        _made.cache_clear()


@renamed(docs="contexts")
def optimize(contexts: Sequence[Any], query: str, **options: Unpack[OptimizeArguments]) -> Messages:
    """Call `ContextPilot.optimize` on the process-wide instance."""
    return default_pilot().optimize(contexts, query, **options)


@renamed(all_docs="all_contexts", all_queries="queries")
def optimize_batch(
    all_contexts: Sequence[Sequence[Any]],
    queries: Sequence[str],
    **options: Unpack[BatchArguments],
) -> tuple[list[Messages], list[int]]:
    """Call `ContextPilot.optimize_batch` on the process-wide instance."""
    return default_pilot().optimize_batch(all_contexts, queries, **options)


def rewrite(messages: Sequence[Any], **options: Unpack[RewriteArguments]) -> Rewritten:
    """Call `ContextPilot.rewrite` on the process-wide instance."""
    return default_pilot().rewrite(messages, **options)

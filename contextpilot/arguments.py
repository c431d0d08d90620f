"""The arguments by name of the pilot's calls, for those that pass them on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from contextpilot.options import CallOptions
from contextpilot.prompt.messages import Message


class _Arguments(CallOptions, total=False):
    """Of all."""

    namespace: str | None


class ReorderArguments(_Arguments, total=False):
    """Of `ContextPilot.reorder`."""

    conversation_id: str | None


class BatchArguments(_Arguments, total=False):
    """Of `ContextPilot.optimize_batch`."""

    system_instruction: str | None


class OptimizeArguments(BatchArguments, total=False):
    """Of `ContextPilot.optimize`."""

    conversation_id: str | None
    history: Sequence[Message] | None


class SearchArguments(_Arguments, total=False):
    """Of `ContextPilot.rewrite`, for any conversation."""

    mode: str
    scope: str | Collection[str]


class RewriteArguments(SearchArguments, total=False):
    """Of `ContextPilot.rewrite`."""

    system: str | Sequence[Any] | None
    tools: Sequence[Any] | None
    response_format: Any
    conversation_id: str | None

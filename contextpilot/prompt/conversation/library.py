"""Rewrites the conversations that callers of the library give."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from contextpilot.block import BlockReader
from contextpilot.options import Options
from contextpilot.planning import Planning
from contextpilot.prompt.conversation.given import given_conversation
from contextpilot.prompt.conversation.prepare import RewritePreparer, Search
from contextpilot.prompt.conversation.rewritten import Learnt, Rewritten, rewritten, unchanged
from contextpilot.prompt.conversation.written_orders import WrittenOrders


class LibraryRewriter:
    """What `ContextPilot.rewrite` does with its arguments. Thread-safe."""

    def __init__(self, reader: BlockReader, orders: WrittenOrders) -> None:
        self._preparer = RewritePreparer(reader, orders)

    def rewrite(
        self,
        messages: Any,
        system: Any,
        tools: Any,
        response_format: Any,
        options: Options,
        namespace: str,
        mode: str,
        scope: str | Collection[str],
        planning: Planning,
    ) -> tuple[Rewritten, Learnt | None]:
        """Return the conversation rewritten, and what was planned; None for nothing.

        Raises:
            TypeError, ValueError: an argument is of the wrong kind or unknown; it is named.
        """
        given = given_conversation(messages, system, tools, response_format)
        pending, lists = self._preparer.prepare(
            given.shape, given.body, options, namespace, Search(mode, scope)
        )
        if pending is None:
            return unchanged(given, lists, mode), None
        (planned,) = planning.run(pending.job(namespace))
        done = rewritten(given, planned, pending.write(planned), lists)
        return done, Learnt(planned.explanation, pending.blocks)

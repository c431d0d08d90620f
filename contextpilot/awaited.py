"""An async pilot: planning runs on threads and does not block the event loop."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from contextpilot.pilot import ContextPilot

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from contextpilot.arguments import (
        BatchArguments,
        OptimizeArguments,
        ReorderArguments,
        RewriteArguments,
    )
    from contextpilot.prompt.conversation.rewritten import Rewritten
    from contextpilot.prompt.messages import Messages
    from contextpilot.reordered import Reordered

_T = TypeVar("_T")
_PLANNERS = ThreadPoolExecutor(4, "contextpilot-await")
"""Threads of our own: nobody's default executor is filled with batches."""


class AsyncContextPilot:
    """The calls of a `ContextPilot`, async, on its index. For any number of tasks and loops.

    A call that is cancelled before its turn is not planned. If it is cancelled while it is being
    planned, it ends on its thread, and the index drops it, since it will not be sent.

        pilot = AsyncContextPilot()
        messages = await pilot.optimize(documents, "the question")

    Args:
        pilot: the pilot whose index is used, also by its own calls; default: a new one.

    Attributes:
        pilot: the pilot itself, for quick calls: `explain`, `stats`, `engines`, `reset`.
    """

    def __init__(self, pilot: ContextPilot | None = None) -> None:
        if pilot is not None and not isinstance(pilot, ContextPilot):
            raise TypeError(f"pilot must be a ContextPilot, not {type(pilot).__name__}")
        self.pilot = pilot or ContextPilot()

    async def optimize(
        self, contexts: Sequence[Any], query: str, **arguments: Unpack[OptimizeArguments]
    ) -> Messages:
        """As `ContextPilot.optimize`."""
        call = partial(self.pilot.optimize, contexts, query, **arguments)
        return await self._run(call, lambda messages: [messages.plan_id])

    async def optimize_batch(
        self,
        all_contexts: Sequence[Sequence[Any]],
        queries: Sequence[str],
        **arguments: Unpack[BatchArguments],
    ) -> tuple[list[Messages], list[int]]:
        """As `ContextPilot.optimize_batch`."""
        call = partial(self.pilot.optimize_batch, all_contexts, queries, **arguments)
        return await self._run(call, lambda planned: [one.plan_id for one in planned[0]])

    async def reorder(
        self, contexts: Sequence[Any], **arguments: Unpack[ReorderArguments]
    ) -> tuple[list[Reordered], list[int]]:
        """As `ContextPilot.reorder`."""
        call = partial(self.pilot.reorder, contexts, **arguments)
        return await self._run(call, lambda planned: [one.request_id for one in planned[0]])

    async def rewrite(
        self, messages: Sequence[Any], **arguments: Unpack[RewriteArguments]
    ) -> Rewritten:
        """As `ContextPilot.rewrite`."""
        call = partial(self.pilot.rewrite, messages, **arguments)
        return await self._run(call, lambda done: [done.request_id])

    async def close(self) -> None:
        """As `ContextPilot.close`."""
        await self._run(self.pilot.close, lambda _: [])

    async def __aenter__(self) -> AsyncContextPilot:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def _run(self, call: Callable[[], _T], ids: Callable[[_T], Iterable[str]]) -> _T:
        """Call on a thread; `ids` are those of the requests that a result plans."""
        context = contextvars.copy_context()
        running = _PLANNERS.submit(context.run, call)
        try:
            return await asyncio.wrap_future(running)
        except asyncio.CancelledError:
            running.add_done_callback(partial(self._take_back, ids))
            raise

    def _take_back(self, ids: Callable[[_T], Iterable[str]], done: Future[_T]) -> None:
        if not done.cancelled() and done.exception() is None:
            self.pilot.unsent(*filter(None, ids(done.result())))

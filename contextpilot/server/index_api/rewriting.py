"""`POST /rewrite`: what `ContextPilot.rewrite` does, for programs that are not in Python."""

from __future__ import annotations

from typing import Any

from contextpilot.prompt.conversation.given import given_conversation
from contextpilot.prompt.conversation.prepare import RewritePreparer, Search
from contextpilot.prompt.conversation.rewritten import Rewritten, rewritten, unchanged
from contextpilot.prompt.conversation.written_orders import WrittenOrders
from contextpilot.server.errors import input_errors
from contextpilot.server.index_api.schemas import RewriteBody
from contextpilot.server.offload import offload
from contextpilot.server.service import Service


class Rewriting:
    """Rewrites conversations at a server's engines; they are planned here, and sent elsewhere.

    Args:
        orders: how earlier turns were written, the proxy's too.
    """

    def __init__(self, service: Service, orders: WrittenOrders) -> None:
        self._service = service
        self._preparer = RewritePreparer(service.reader, orders)

    async def rewrite(self, body: RewriteBody, is_large: bool) -> Rewritten:
        """Return a conversation as it may go to the engine.

        Args:
            is_large: a thread should look through it.

        Raises:
            ApiError: an argument is of the wrong kind or unknown; it is named.
        """
        with input_errors():
            given = given_conversation(body.messages, body.system, body.tools, body.response_format)
            options = self._service.defaults.override(**body.options())
            search = Search(body.mode, body.scope)
            pending, lists = await offload(
                is_large,
                self._preparer.prepare,
                given.shape,
                given.body,
                options,
                body.namespace,
                search,
            )
        if pending is None:
            return unchanged(given, lists, body.mode)
        leased = self._service.pool.lease(
            body.namespace, pending.blocks, pending.head, bounds=pending.bounds, wait=False
        )
        async with leased as lease:
            planned = await lease.run(pending.job(body.namespace))
        self._service.remember("rewrite", [pending.blocks], planned, lease)
        written = await offload(is_large, pending.write, planned[0])
        return rewritten(given, planned[0], written, lists)


def as_reply(done: Rewritten) -> dict[str, Any]:
    """Return a rewritten conversation as JSON content."""
    return {
        "messages": list(done.messages),
        "system": done.system,
        "request_id": done.request_id,
        "ranks": done.order,
        "num_hinted": done.num_hinted,
        "saved_chars": done.saved_chars,
        "reason": done.reason,
    }

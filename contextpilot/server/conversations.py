"""The blocks that conversations of the index API were given; what is large goes on a thread."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from operator import attrgetter

from contextpilot.block import Block
from contextpilot.budget import max_talks
from contextpilot.dedup.conversation import Conversations, Deduplication
from contextpilot.server.offload import LARGE_BLOCKS, offload


class TenantConversations:
    """Conversations by namespace, bounded together. For use on one event loop.

    Args:
        max_blocks: bound on the blocks of all indexes, of which that of conversations follows.
        max_namespaces: the least recently used go when there are more.
    """

    def __init__(self, max_blocks: int, max_namespaces: int) -> None:
        self._bound = max_talks(max_blocks)
        self._max = max_namespaces
        self._spaces: OrderedDict[str, Conversations] = OrderedDict()
        self._turn = asyncio.Lock()

    async def record(
        self, namespace: str, conversation: str, blocks: Sequence[Block], is_large: bool
    ) -> None:
        """Record the blocks that a conversation was given, on a thread if they are many."""
        async with self._turn:
            held = self._spaces.setdefault(namespace, Conversations())
            self._spaces.move_to_end(namespace)
            while len(self._spaces) > self._max:
                self._spaces.popitem(last=False)
            await offload(is_large, held.add, conversation, blocks)
            self._shed()

    async def deduplicate(
        self,
        namespace: str,
        conversation: str,
        read: Callable[[], Sequence[Block]],
        template: str,
        is_large: bool,
    ) -> Deduplication:
        """Compare blocks with what a conversation was given, and record them.

        Args:
            read: returns the blocks; called where they are compared.

        Raises:
            UnknownConversationError: it was given nothing.
        """
        async with self._turn:
            held = self._spaces.get(namespace) or Conversations()
            is_large = is_large or held.size(conversation) >= LARGE_BLOCKS
            found = await offload(
                is_large, lambda: held.deduplicate(conversation, read(), template)
            )
            self._shed()
        return found

    def forget(self, namespace: str | None) -> None:
        """Forget those of one namespace, or all."""
        if namespace is None:
            self._spaces.clear()
        else:
            self._spaces.pop(namespace, None)

    def _shed(self) -> None:
        """Where all hold too much, let those who hold most forget their oldest conversations."""
        held = self._spaces.values()
        while (over := sum([one.num_blocks for one in held]) - self._bound) > 0:
            max(held, key=attrgetter("num_blocks")).shed(over)

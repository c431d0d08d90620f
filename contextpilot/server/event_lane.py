"""Applies the engines' messages beside the event loop, one after another.

They have a thread of their own, so that they wait behind no planning. What a llama-server tells of
its slots is applied on the loop, where those who choose slots look at it; it is never much.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from contextpilot.sync.receiver import SyncReceiver
from contextpilot.sync.sources.choice import source_of_kind


class SyncLane:
    """Takes messages in the order in which it is given them. For use on one event loop."""

    def __init__(self, receiver: SyncReceiver) -> None:
        self._receiver = receiver
        self._thread = ThreadPoolExecutor(1, "contextpilot-sync")

    async def take(self, content: Mapping[str, Any]) -> Literal["ok", "resync"]:
        """Apply a message, decoded from JSON.

        Raises:
            ValueError: it is none; the field at fault is named.
        """
        if source_of_kind(content.get("kind")).is_asked_while_planning:
            return self._apply(content)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._apply, content)

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _apply(self, content: Mapping[str, Any]) -> Literal["ok", "resync"]:
        return self._receiver.take(content)

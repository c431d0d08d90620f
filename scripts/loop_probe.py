"""For how long an event loop is away: a task on it that wakes every millisecond."""

from __future__ import annotations

import asyncio
import time

TICK_S = 0.001


class Probe:
    """Wakes every millisecond, and knows for how long it could not.

    Attributes:
        stall_s: processor time that the process used meanwhile, on the loop or without giving way.
        clock_s: the same by the clock, in which others may have had the processor.
    """

    def __init__(self) -> None:
        self.stall_s = self.clock_s = 0.0
        self.task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Watch, for ever."""
        while True:
            used, began = time.process_time(), time.perf_counter()
            await asyncio.sleep(TICK_S)
            self.stall_s = max(self.stall_s, time.process_time() - used)
            self.clock_s = max(self.clock_s, time.perf_counter() - began - TICK_S)

    def read(self) -> dict[str, float]:
        """Return the longest stalls since the last look, in milliseconds."""
        told = {"stall_ms": 1e3 * self.stall_s, "clock_ms": 1e3 * self.clock_s}
        self.stall_s = self.clock_s = 0.0
        return told

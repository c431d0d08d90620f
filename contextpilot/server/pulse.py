"""Looks after the engines' health: probes that back off, and what the answers tell."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeAlias

from contextpilot.server.engine import Engine
from contextpilot.server.slots import Slots

logger = logging.getLogger(__name__)

Get: TypeAlias = Callable[[str], Awaitable[tuple[int, bytes]]]
"""Fetches a URL: status and body; raises OSError (TimeoutError, too) when nothing answers."""


class Rhythm(NamedTuple):
    """Seconds between probes, and how many silences make an engine count as dead.

    Attributes:
        interval_s: while the engine answers.
        first_retry_s, max_retry_s: while it does not, doubled each time.
        silences: probes without an answer in time; a refused connection counts at once.
    """

    interval_s: float = 2.0
    first_retry_s: float = 0.25
    max_retry_s: float = 10.0
    silences: int = 3


class Pulse:
    """Probes one engine until cancelled.

    Args:
        on_death: called when the engine stops answering.
    """

    def __init__(
        self, engine: Engine, get: Get, on_death: Callable[[Engine], None], rhythm: Rhythm
    ) -> None:
        self._engine = engine
        self._get = get
        self._on_death = on_death
        self._rhythm = rhythm
        self._now = asyncio.Event()
        self._failures = 0

    def hurry(self) -> None:
        """Probe now: a request failed."""
        self._now.set()

    async def run(self) -> None:
        """Probe for ever."""
        while True:
            try:
                await self.beat()
            except Exception:  # the next beat may do better; without any the engine would seem up
                logger.exception("engine %d: the health check failed", self._engine.number)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._now.wait(), self._pause())
            self._now.clear()

    async def beat(self) -> None:
        """Probe once, and note what came of it."""
        engine = self._engine
        try:
            status, _ = await self._get(engine.url + "/health")
        except OSError as error:
            self._silent(may_be_slow=isinstance(error, TimeoutError))
            return
        if status >= 500:  # it starts, or its core has died
            self._silent(may_be_slow=False)
            return
        self._failures = 0
        if engine.up is not True:
            await self._greet()
        await self._observe()
        engine.line.release()

    def _pause(self) -> float:
        rhythm = self._rhythm
        if not self._failures:
            return rhythm.interval_s
        doubled: float = rhythm.first_retry_s * 2 ** min(self._failures - 1, 16)
        return min(doubled, rhythm.max_retry_s)

    def _silent(self, *, may_be_slow: bool) -> None:
        self._failures += 1
        if may_be_slow and self._failures < self._rhythm.silences:
            return
        engine = self._engine
        if engine.up is not False:
            engine.up = False
            logger.warning("engine %d does not answer: it counts as dead", engine.number)
            self._on_death(engine)

    async def _greet(self) -> None:
        engine = self._engine
        logger.info("engine %d answers", engine.number)
        slots = await self._num_slots()
        if slots:
            engine.slots = Slots(slots)
            engine.limit.learn_slots(slots)
        engine.up = True

    async def _num_slots(self) -> int:
        """Return the number of slots, which only llama-server has."""
        try:
            status, body = await self._get(self._engine.url + "/props")
            slots = json.loads(body).get("total_slots") if status == 200 else 0
        except (OSError, ValueError, AttributeError):
            return 0
        return slots if isinstance(slots, int) else 0

    async def _observe(self) -> None:
        try:
            status, body = await self._get(self._engine.url + "/metrics")
        except OSError:
            return
        if status == 200:
            text = body.decode("utf-8", "replace")
            self._engine.limit.observe(text, self._engine.line.in_flight)

"""Looks after the engines' health: probes that back off, and what the answers tell."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from contextpilot.engines.base import Get
from contextpilot.http.reason import reason
from contextpilot.server.pool.faults import is_ours, is_refused
from contextpilot.server.pool.member import Engine

logger = logging.getLogger(__name__)


class Rhythm(NamedTuple):
    """Seconds between probes, and how many failures in a row make an engine count as dead.

    An engine that never answered has nothing to lose, and counts as dead from the first.

    Attributes:
        interval_s: while the engine answers.
        first_retry_s, max_retry_s: while it does not, doubled each time.
        silences: probes that fail in any way: no answer in time, a broken one, a status of 5xx.
        refusals: connections refused; one can be a full backlog.
    """

    interval_s: float = 2.0
    first_retry_s: float = 0.25
    max_retry_s: float = 10.0
    silences: int = 3
    refusals: int = 2


class HealthCheck:
    """Probes one engine until cancelled.

    Args:
        on_life: awaited when the engine begins to answer, before it counts as up.
        on_death: awaited when it stops.
    """

    def __init__(
        self,
        engine: Engine,
        get: Get,
        on_life: Callable[[Engine], Awaitable[None]],
        on_death: Callable[[Engine], Awaitable[None]],
        rhythm: Rhythm,
    ) -> None:
        self._engine = engine
        self._get = get
        self._on_life = on_life
        self._on_death = on_death
        self._rhythm = rhythm
        self._now = asyncio.Event()
        self._failures = 0
        self._refusals = 0

    def hurry(self) -> None:
        """Probe now: a request failed."""
        self._now.set()

    async def run(self) -> None:
        """Probe for ever."""
        while True:
            try:
                await self.beat()
            except Exception:  # the next beat may do better; without any the engine would seem up
                logger.exception("engine %s: the health check failed", self._engine.name)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._now.wait(), self._pause())
            self._now.clear()

    async def beat(self) -> None:
        """Probe once, and note what came of it."""
        engine = self._engine
        try:
            status, _ = await self._get(engine.url + "/health")
        except OSError as error:
            if is_ours(error):
                logger.warning("engine %s: no health check (%s)", engine.name, error)
            else:
                await self._failed(reason(error), is_refused(error))
            return
        if status >= 500:  # it starts, is overloaded, or its core has died
            await self._failed(f"its /health says {status}")
            return
        self._failures = self._refusals = 0
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

    async def _failed(self, why: str, is_refusal: bool = False) -> None:
        self._failures += 1
        self._refusals += is_refusal
        engine, rhythm = self._engine, self._rhythm
        is_sure = self._failures >= rhythm.silences or self._refusals >= rhythm.refusals
        if engine.up is not None and not is_sure:
            return
        if engine.up is not False:
            engine.up = False
            told = f" ({why})" if why else ""
            logger.warning("engine %s does not answer%s and counts as dead", engine.name, told)
            await self._on_death(engine)

    async def _greet(self) -> None:
        logger.info("engine %s answers", self._engine.name)
        try:
            await self._on_life(self._engine)
        except Exception:  # what it is need not be known for requests to go there
            logger.exception("engine %s could not be checked", self._engine.name)
        self._engine.up = True

    async def _observe(self) -> None:
        try:
            status, body = await self._get(self._engine.url + "/metrics")
        except OSError:
            return
        if status == 200:
            text = body.decode("utf-8", "replace")
            self._engine.limit.observe(text, self._engine.line.in_flight)

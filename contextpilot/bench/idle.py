"""Waits until an engine has nothing to do: what is sent for later never stands before anybody."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

from contextpilot.engines.load import read_load
from contextpilot.http.pooled import Upstream, UpstreamError
from contextpilot.http.response import BrokenAnswerError

_ASK_EVERY_S = 0.25


class IdleWatch:
    """Asks an engine, or a `contextpilot serve` before engines, what it has to do.

    Attributes:
        is_told: whether it tells; None before it was asked.
        waited_s: seconds waited so far.
    """

    def __init__(self, upstream: Upstream, url: str, limit_s: float) -> None:
        self._upstream = upstream
        self._url = url
        self._limit_s = limit_s
        self.is_told: bool | None = None
        self.waited_s = 0.0

    async def wait(self) -> bool:
        """Return True once nothing runs or waits there, False if that is never so in time.

        What does not tell its load is taken for idle.
        """
        started = time.monotonic()
        while True:
            busy = await self._num_busy()
            self.is_told = busy is not None
            if not busy:
                break
            if time.monotonic() - started >= self._limit_s:
                return False
            await asyncio.sleep(_ASK_EVERY_S)
            self.waited_s += _ASK_EVERY_S
        return True

    async def _num_busy(self) -> int | None:
        """Return how many requests run or wait; None where it does not tell."""
        engines = engines_behind(await self._get("/health"))
        if engines is not None:
            return sum(int(one.get("in_flight", 0)) + int(one.get("waiting", 0)) for one in engines)
        load = read_load(await self._get("/metrics"))
        return None if load is None else load.running + load.waiting

    async def _get(self, path: str) -> str:
        try:
            async with self._upstream.open("GET", self._url + path, [], b"") as answer:
                return (await answer.read()).decode(errors="replace")
        except (UpstreamError, BrokenAnswerError):
            return ""


def engines_behind(health: str) -> list[Mapping[str, Any]] | None:
    """Return the engines that a `contextpilot serve` tells of at /health; None for anybody else."""
    try:
        told = json.loads(health)
    except ValueError:
        return None
    engines = told.get("engines") if isinstance(told, dict) else None
    return engines if isinstance(engines, list) else None

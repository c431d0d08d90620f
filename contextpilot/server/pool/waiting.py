"""Requests that wait for a saturated engine, released in the order that its cache likes.

Those that have waited longest, up to a window, are planned together against the live index; the
plan's execution order is the order of release. Below saturation nothing waits and nothing is
planned here. Ageing: once a request was overtaken so many times, or for so long, it is next.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import NamedTuple, TypeAlias

from contextpilot.block import Block
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import Head, Plan
from contextpilot.server.pool.concurrency_limit import ConcurrencyLimit

logger = logging.getLogger(__name__)

LARGE_WINDOW = 16
"""Planning more requests than this takes over 3 ms (64: 25 ms), and so happens on a thread."""


class UnplannedRequest(NamedTuple):
    """What is known of a request before it is planned."""

    namespace: str
    blocks: Sequence[Block]
    head: Head
    bounds: Bounds


PlanWindow: TypeAlias = Callable[[Sequence[UnplannedRequest]], Iterator[tuple[int, Plan]]]
"""Yields the positions of requests in the order of release, each with its plan.

The first takes longest, and may be asked for on another thread. The next is asked for when the one
before was let go, and so was learnt or given up.
"""


@dataclass(frozen=True)
class Ageing:
    """How long a request may be passed over.

    Attributes:
        window: requests that are planned together.
        max_overtaken: later requests that may be released before one.
        max_delay_s: for so long, from the first time on, a request may be overtaken. Waiting that
            no overtaking caused does not count: under lasting overload all would be overdue, and
            nothing could be planned together.
    """

    window: int = 16
    max_overtaken: int = 64
    max_delay_s: float = 10.0

    def __post_init__(self) -> None:
        for name, least in (("window", 1), ("max_overtaken", 0), ("max_delay_s", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")


class WaitTotals(NamedTuple):
    """Sums over released requests; those that did not have to wait count with zero seconds."""

    released: int = 0
    waited: int = 0
    seconds: float = 0.0
    longest_s: float = 0.0

    def plus(self, seconds: float) -> WaitTotals:
        """Return the sums with a request that waited so long."""
        return WaitTotals(
            self.released + 1,
            self.waited + 1,
            self.seconds + seconds,
            max(self.longest_s, seconds),
        )


@dataclass(eq=False)
class _Waiter:
    request: UnplannedRequest
    released: asyncio.Future[Plan | None]
    since: float
    overtaken: int = 0
    overtaken_since: float | None = None

    def is_overdue(self, now: float, ageing: Ageing) -> bool:
        """Return whether nobody may overtake this request any more."""
        if self.overtaken >= ageing.max_overtaken:
            return True
        since = self.overtaken_since
        return since is not None and now - since >= ageing.max_delay_s


@dataclass
class _Run:
    """A window in the order of its plan; those that left it otherwise are passed over."""

    waiters: Sequence[_Waiter]
    order: Iterator[tuple[int, Plan | None]] = field(default_factory=lambda: iter(()))


class WaitingLine:
    """The requests that wait for one engine. For use on one event loop.

    Args:
        plan_window: plans a window of requests.
        limit: how many requests the engine takes at once.
        clock: seconds, monotonic; default: the event loop's.
    """

    def __init__(
        self,
        plan_window: PlanWindow,
        limit: ConcurrencyLimit,
        ageing: Ageing | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._plan_window = plan_window
        self._limit = limit
        self._ageing = ageing or Ageing()
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._waiting: OrderedDict[_Waiter, None] = OrderedDict()
        self._run = _Run(())
        self._planning: asyncio.Task[None] | None = None
        self._in_flight = 0
        self.totals = WaitTotals()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        """Requests that entered and did not leave yet."""
        return self._in_flight

    async def enter(self, request: UnplannedRequest) -> Plan | None:
        """Take a place at the engine, at once if there is one; `leave` must follow.

        Returns:
            The plan made together with others that waited; None when the request is to be planned
            by itself.
        """
        if not self._waiting and self._has_room():
            self._in_flight += 1
            self.totals = self.totals._replace(released=self.totals.released + 1)
            return None
        future: asyncio.Future[Plan | None] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(request, future, self._clock())
        self._waiting[waiter] = None
        try:
            return await future
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise

    def leave(self) -> None:
        """Give a place back; the next in line gets it."""
        assert self._in_flight > 0, "leave without enter"
        self._in_flight -= 1
        self.release()

    def release(self) -> None:
        """Let go as many as there are places for; call it when the limit has risen."""
        while self._waiting and self._has_room():
            found = self._next()
            if found is None:  # a window is being planned: then they are let go
                return
            waiter, plan = found
            del self._waiting[waiter]
            if waiter.released.done():  # cancelled, but its task did not run since
                continue
            self._in_flight += 1
            self.totals = self.totals.plus(self._clock() - waiter.since)
            waiter.released.set_result(plan)

    def dismiss(self, error: Exception) -> None:
        """Send all that wait away with an error: the engine is gone."""
        waiters, self._run = list(self._waiting), _Run(())
        if self._planning is not None:
            self._planning.cancel()
            self._planning = None
        self._waiting.clear()
        for waiter in waiters:
            if not waiter.released.done():
                waiter.released.set_exception(error)

    def _has_room(self) -> bool:
        return self._in_flight < self._limit.value

    def _withdraw(self, waiter: _Waiter) -> None:
        """Undo a cancelled wait: a place that was given in the same moment goes to the next."""
        if waiter in self._waiting:
            del self._waiting[waiter]
        elif not waiter.released.cancelled() and waiter.released.exception() is None:
            self.leave()

    # -- order -----------------------------------------------------------------------------------

    def _next(self) -> tuple[_Waiter, Plan | None] | None:
        """Return who is next, and the plan; None while that is being found out."""
        oldest = next(iter(self._waiting))
        now = self._clock()
        if oldest.is_overdue(now, self._ageing):  # whoever overtook another overtook the oldest
            return oldest, None
        planned = self._planned()
        if planned is None and self._planning is not None:
            return None
        waiter, plan = planned or (oldest, None)
        for earlier in self._waiting:
            if earlier is waiter:
                break
            earlier.overtaken += 1
            if earlier.overtaken_since is None:
                earlier.overtaken_since = now
        return waiter, plan

    def _planned(self) -> tuple[_Waiter, Plan | None] | None:
        """Return the next of the window's plan; of a new window when that is through."""
        try:
            return self._follow() or self._begin()
        except Exception:
            logger.exception(
                "waiting requests cannot be planned together: released in order of arrival"
            )
            self._run = _Run(())
            return None

    def _follow(self) -> tuple[_Waiter, Plan | None] | None:
        for position, plan in self._run.order:
            waiter = self._run.waiters[position]
            if waiter in self._waiting:
                return waiter, plan
        return None

    def _begin(self) -> tuple[_Waiter, Plan | None] | None:
        if len(self._waiting) < 2 or self._planning is not None:
            return None
        waiters = [w for w, _ in zip(self._waiting, range(self._ageing.window), strict=False)]
        order = self._plan_window([waiter.request for waiter in waiters])
        if len(waiters) > LARGE_WINDOW:
            self._planning = asyncio.create_task(self._plan_beside(waiters, order))
            return None
        self._run = _Run(waiters, order)
        return self._follow()

    async def _plan_beside(
        self, waiters: Sequence[_Waiter], order: Iterator[tuple[int, Plan]]
    ) -> None:
        """Plan a window while the event loop does other things; then let go who may."""
        steps: Iterator[tuple[int, Plan | None]]
        try:
            steps = chain(await asyncio.to_thread(_first, order), order)
        except Exception:
            logger.exception(
                "waiting requests cannot be planned together: released in order of arrival"
            )
            steps = ((position, None) for position in range(len(waiters)))
        self._planning = None
        self._run = _Run(waiters, steps)
        self.release()


def _first(order: Iterator[tuple[int, Plan]]) -> list[tuple[int, Plan]]:
    return list(islice(order, 1))

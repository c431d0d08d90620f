"""Keeps the event loop free: what takes long runs on a thread.

Python code on a thread gives way to the loop every few milliseconds. A single call into C does not,
so parsing JSON (measured: 1.5 ms a megabyte) gains nothing from a thread by itself.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

LARGE_BYTES = 128 << 10
"""A body as large as this takes some 3 ms to look through; a thread costs 0.1 ms."""
LARGE_BLOCKS = 500
"""So many blocks take some 3 ms to plan."""

_PLANNERS = ThreadPoolExecutor(4, "contextpilot-plan")
_READERS = ThreadPoolExecutor(4, "contextpilot-read")

_P = ParamSpec("_P")
_T = TypeVar("_T")


class LateError(Exception):
    """So much is to be planned that a request waited for too long: it should go on unplanned."""


def parse_slowly(content: bytes | str) -> Any:
    """Return what JSON says, on a thread: calling Python for each object gives way to others."""
    return json.loads(content, object_hook=_given)


def _given(content: dict[str, Any]) -> dict[str, Any]:
    return content


class Turnstile:
    """Lets one piece of work through in each round of the event loop.

    Pieces that are short each would keep the loop away for their sum where many are ready at once.
    For use on one event loop.
    """

    def __init__(self) -> None:
        self._is_taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def run(self, work: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call `work` when it is its turn; return what it returns."""
        loop = asyncio.get_running_loop()
        if self._is_taken:
            turn = loop.create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():  # the turn had come
                    self._pass_on()
                raise
        self._is_taken = True
        try:
            return work(*args, **kwargs)
        finally:
            loop.call_soon(self._pass_on)

    def _pass_on(self) -> None:
        """Let the next through, if any waits."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._is_taken = False


async def offload(
    is_large: bool, work: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
) -> _T:
    """Call `work`, on a thread if it is large; return what it returns."""
    if is_large:
        return await asyncio.to_thread(work, *args, **kwargs)
    return work(*args, **kwargs)


async def offload_planning(
    work: Callable[[], _T],
    max_wait_s: float = math.inf,
    take_back: Callable[[_T], object] | None = None,
) -> _T:
    """Call `work` on threads that nothing else has to wait for; return what it returns.

    Args:
        max_wait_s: raise LateError where no thread has begun by then.
        take_back: gets what comes of it if the client goes meanwhile.
    """
    return await _on_thread(_PLANNERS, work, max_wait_s, take_back)


async def offload_reading(work: Callable[[], _T], max_wait_s: float) -> _T:
    """Call `work` on threads for large bodies; return what it returns. Raises LateError, too."""
    return await _on_thread(_READERS, work, max_wait_s, None)


async def _on_thread(
    threads: ThreadPoolExecutor,
    work: Callable[[], _T],
    max_wait_s: float,
    take_back: Callable[[_T], object] | None,
) -> _T:
    future = threads.submit(work)
    done = asyncio.wrap_future(future)
    try:
        await asyncio.wait((done,), timeout=max_wait_s if max_wait_s < math.inf else None)
        if not done.done():
            if future.cancel():
                raise LateError
            await asyncio.wait((done,))
        return done.result()
    except asyncio.CancelledError:
        if not future.cancel():  # a thread is at it
            done.add_done_callback(partial(_unwanted, take_back))
        raise


def _unwanted(take_back: Callable[[_T], object] | None, done: asyncio.Future[_T]) -> None:
    if not done.cancelled() and done.exception() is None and take_back is not None:
        take_back(done.result())


def are_many(contexts: Sequence[Sequence[object]]) -> bool:
    """Return whether contexts hold so many blocks that a thread should plan and write them."""
    return sum(map(len, contexts)) >= LARGE_BLOCKS

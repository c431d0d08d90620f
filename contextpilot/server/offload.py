"""Keeps the event loop free: what takes long runs on a thread.

Python code on a thread gives way to the loop every few milliseconds. A single call into C does not,
so parsing JSON (measured: 1.5 ms a megabyte) gains nothing from a thread by itself.
"""

from __future__ import annotations

import asyncio
import json
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

_P = ParamSpec("_P")
_T = TypeVar("_T")


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
    is_large: bool, work: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
) -> _T:
    """Call `work` as `offload` does, on threads that nothing else has to wait for.

    A client that goes does not stop a plan that is being made.
    """
    if is_large:
        call = partial(work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(_PLANNERS, call)
    return work(*args, **kwargs)


def are_many(contexts: Sequence[Sequence[object]]) -> bool:
    """Return whether contexts hold so many blocks that a thread should plan and write them."""
    return sum(map(len, contexts)) >= LARGE_BLOCKS

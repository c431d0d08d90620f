"""Waits for an engine that is still loading its model, and says so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from contextpilot.http.pooled import Upstream, UpstreamError
from contextpilot.http.reason import reason
from contextpilot.http.response import BrokenAnswerError

Say = Callable[[str], None]

_ASK_EVERY_S = 1.0
_SAY_EVERY_S = 30.0


async def wait_until_ready(upstream: Upstream, url: str, limit_s: float, say: Say) -> None:
    """Return once an engine answers `/health` as one that serves, or after `limit_s` seconds.

    Engines open their port late, or answer 503 while they load. Any other answer is taken for
    ready: what is wrong then, the first real question tells.
    """
    started = time.monotonic()
    told = started - _SAY_EVERY_S
    while True:
        state = await _state(upstream, url)
        now = time.monotonic()
        if not state or now - started >= limit_s:
            return
        if now - told >= _SAY_EVERY_S:
            told = now
            waited = f"{now - started:.0f} of at most {limit_s:.0f} s"
            say(f"{url} {state}: waiting for it, {waited} (--wait)")
        await asyncio.sleep(min(_ASK_EVERY_S, limit_s))


async def _state(upstream: Upstream, url: str) -> str:
    """Return why an engine does not serve yet, in words; "" when it does."""
    try:
        async with upstream.open("GET", f"{url}/health", [], b"") as answer:
            await answer.read()
    except UpstreamError as error:
        why = reason(error.cause) if error.cause is not None else ""
        return f"does not answer yet ({why})" if why else "does not answer yet"
    except BrokenAnswerError:
        return "does not answer yet"
    return "is still loading" if answer.status == 503 else ""

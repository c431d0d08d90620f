"""For how long the event loop is away when many engines die at the same moment."""

from __future__ import annotations

import time
from functools import partial

from .loop import LIMIT, fill
from .measurement import Measurement
from .watched import Watched, watched

ENGINES = 64
PATHS = 2_000


def die_at_once(spaces: int) -> float:
    """Let engines whose indexes hold 10,000 blocks each find out together that they are dead."""
    urls = tuple(f"http://127.0.0.1:{port}" for port in range(9_000, 9_000 + ENGINES))
    with watched(engine=urls) as server:
        while any(one.up is not False for one in server.service.pool.engines):
            time.sleep(0.1)
        for number in range(ENGINES):
            fill(server, PATHS, 5, spaces=spaces, engine=number)
        return server.stall_ms_of(partial(bury, server))


def bury(server: Watched) -> None:
    """Have all of them seem alive, and be asked now."""
    pool = server.service.pool
    for engine in pool.engines:
        engine.up = True
    for engine in pool.engines:
        pool.hurry(engine.name)


MEASUREMENTS = [
    Measurement(
        f"{ENGINES} engines die at once, {spaces} namespaces of 10,000 blocks in each",
        "ms",
        LIMIT,
        partial(die_at_once, spaces),
    )
    for spaces in (4, 100)
]

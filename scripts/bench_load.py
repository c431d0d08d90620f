"""Load the server to its limit, hold it there, let it recover: what goes first, what is refused.

    python scripts/bench_load.py planning --minutes 10
    python scripts/bench_load.py engine --minutes 10

`planning`: the engine answers at once, so that planning is what lacks time. `engine`: it has few
places, so that requests queue. Requests come at random times, whatever becomes of them (an open
loop); the rate doubles until no more are answered, then half as many again come for so long, then
few. Fails when a request gets neither an answer nor a refusal with Retry-After, when requests are
refused for planning's sake, when memory grows over the hold, or when it does not recover.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import uvicorn
import uvloop
from bench_server import JSON, contexts, percentile, start
from faults.machines import Index
from machine import machine_line

from contextpilot.http.pooled import Upstream, UpstreamError

STEP_S = 6.0
MAX_GROWTH = 1.1
NUM_PLACES, PLACE_S = 8, 0.1
BODY_BYTES = 50_000
MAX_REQUESTS = 1_000
FIRST_RATE = 25.0
RISES = 1.2
"""By how much a doubled rate must raise the answers for the ramp to go on."""


@dataclass
class Offered:
    """What came of requests that were offered at one rate.

    Attributes:
        seconds: from the first request to the last answer.
        outcomes: by status, and of those answered by what the header of ours says.
        latencies: of those answered, in seconds.
        memory_mb: of the server, once a second.
    """

    rate: float
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """Requests that an engine answered."""
        return len(self.latencies)

    def count(self, *names: str) -> int:
        """Return how many outcomes begin with one of these names."""
        return sum(count for name, count in self.outcomes.items() if name.startswith(names))

    def row(self, name: str) -> str:
        """Return a line of the table."""
        found = sorted(self.latencies) or [0.0]
        told = [
            name,
            f"{self.rate:,.0f}",
            f"{self.answered / self.seconds:,.0f}",
            f"{self.count('200 planned'):,}",
            f"{self.count('200 no time'):,}",
            f"{self.count('429', '503'):,}",
            f"{self.count('lost'):,}",
            f"{percentile(found, 0.5) * 1e3:,.0f}",
            f"{percentile(found, 0.99) * 1e3:,.0f}",
            f"{max(self.memory_mb, default=0):,.0f}",
        ]
        return f"| {' | '.join(told)} |"


HEAD = (
    "| phase | offered/s | answered/s | planned | no time | refused | lost | p50 ms | p99 ms | MB |"
)


class _Engine:
    """Answers at once, or after a while in one of few places."""

    def __init__(self, is_slow: bool) -> None:
        self._places = asyncio.Semaphore(NUM_PLACES) if is_slow else None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        if self._places is not None and scope["path"].startswith("/v1"):
            async with self._places:
                await asyncio.sleep(PLACE_S)
        await send({"type": "http.response.start", "status": 200, "headers": list(JSON)})
        await send({"type": "http.response.body", "body": b"{}"})


def run_engine(port: int, is_slow: bool) -> None:
    """Serve it."""
    uvicorn.run(_Engine(is_slow), port=port, log_level="error", lifespan="off")


class Load:
    """Offers requests."""

    def __init__(self, index: Index, is_slow: bool) -> None:
        self._index = index
        self._upstream = Upstream(30, 120)
        self._rng = random.Random(1)
        self._bodies = [_body(texts, BODY_BYTES if is_slow else 0) for texts in contexts(200)]

    async def offer(self, rate: float, seconds: float) -> Offered:
        """Send so many requests a second for so long, and wait for what becomes of them."""
        told, tasks = Offered(rate), list[asyncio.Task[None]]()
        watching = asyncio.create_task(self._watch(told))
        began = due = time.perf_counter()
        while due < began + seconds:
            due += self._rng.expovariate(rate)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(self._send(told)))
        await asyncio.gather(*tasks)
        told.seconds = time.perf_counter() - began
        watching.cancel()
        return told

    def close(self) -> None:
        """Close all connections."""
        self._upstream.close()

    async def _send(self, told: Offered) -> None:
        began = time.perf_counter()
        url, body = f"{self._index.url}/v1/chat/completions", self._rng.choice(self._bodies)
        try:
            async with self._upstream.open("POST", url, JSON, body) as answer:
                await answer.read()
                headers = dict(answer.headers)
                name = str(answer.status)
                if answer.status == 200:
                    result = json.loads(headers[b"x-contextpilot-result"])
                    name += " " + str(result.get("reason", result["status"]))
                    told.latencies.append(time.perf_counter() - began)
                elif b"retry-after" not in headers:
                    name = f"lost: {name} without Retry-After"
        except (UpstreamError, OSError) as error:
            name = f"lost: {error}"
        told.outcomes[name] += 1

    async def _watch(self, told: Offered) -> None:
        while True:
            with contextlib.suppress(OSError, RuntimeError):
                told.memory_mb.append(self._index.memory_mb)
            await asyncio.sleep(1)


def _body(texts: Sequence[str], padding: int) -> bytes:
    listed = "".join(f"<document>\n{text}\n</document>\n" for text in texts)
    message = {"role": "user", "content": listed + "What do they say?"}
    return json.dumps({"model": "m", "messages": [message], "x": "x" * padding}).encode()


async def limit(index: Index, is_slow: bool, minutes: float) -> int:
    """Run all phases; return the exit status."""
    load = Load(index, is_slow)
    print(f"{HEAD}\n|{'---|' * 10}", flush=True)
    before = await load.offer(FIRST_RATE, STEP_S)
    print(before.row("ramp"), flush=True)
    last, faults = before, list[str]()
    while True:
        more = await load.offer(2 * last.rate, STEP_S)
        print(more.row("ramp"), flush=True)
        rise = (more.answered / more.seconds) / (last.answered / last.seconds)
        last = more
        if rise < RISES:
            break
    most = last.answered / last.seconds
    held = await load.offer(1.5 * most, 60 * minutes)
    print(held.row("hold"), flush=True)
    after = await load.offer(min(FIRST_RATE, most / 4), STEP_S)
    print(after.row("recovered"), flush=True)
    load.close()
    if any(one.count("lost") for one in (before, last, held, after)):
        faults.append(f"requests were lost: {held.outcomes}")
    if not is_slow and held.count("429", "503"):
        faults.append("requests were refused for planning's sake")
    if after.count("200 planned") < sum(after.outcomes.values()):
        faults.append(f"not all is planned again: {after.outcomes}")
    full = held.memory_mb[len(held.memory_mb) // 2 :]  # the queue has filled
    half = max(1, len(full) // 2)
    if statistics.median(full[-half:]) > MAX_GROWTH * statistics.median(full[:half]):
        faults.append("memory grew over the hold")
    print("\n" + ("; ".join(faults) or "all as it should be"))
    return int(bool(faults))


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("planning", "engine"))
    parser.add_argument("--minutes", type=float, default=10, help="how long the hold is")
    arguments = parser.parse_args()
    is_slow = arguments.what == "engine"
    print(f"{machine_line('fastapi', 'uvicorn', 'uvloop')} · {arguments.what}\n")
    engine, port = start(run_engine, is_slow)
    options = {"max_in_flight": NUM_PLACES, "max_requests": MAX_REQUESTS} if is_slow else {}
    index = Index((f"http://127.0.0.1:{port}",), kind="vllm", **options)
    try:
        index.start()
        return uvloop.run(limit(index, is_slow, arguments.minutes))
    finally:
        index.kill()
        engine.terminate()


if __name__ == "__main__":
    import plainly

    plainly.run(main)

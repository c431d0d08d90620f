"""Print what planning waiting requests together is worth on a real engine with a small cache.

    python scripts/bench_windows.py vllm sglang [--workload FILE] [--cache-tokens N] [--load 1.5]

The engine runs unchanged on the CPU, with a tiny random model and a small KV cache; in front of it
`contextpilot serve` takes `--places` requests at once. First the requests' own order is run with
as many workers as places, which tells what the engine can serve. Then requests come at random
(Poisson) at `--load` times that rate, the same way in each case, each from an empty cache and an
empty index: as given; planned one at a time; planned in windows of those that wait.

Hits are the engine's own `cached_tokens`; beside them stands the processor time of the engine's
processes, which a busy machine does not change. Waiting times are the server's own, in seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent / "engines"))

from bench_server import JSON, closed_loop, percentile
from bench_sync import Request, empty_cache, flags_for, read_requests
from environments import environment
from guard import ending_with_us
from launch import HTTP, MODEL_NAME, Server, free_port, launch
from machine import machine_line
from tiny_model import ensure_model

from contextpilot.http.pooled import Upstream

ARRIVAL_SEED = 20
START_TIMEOUT_S = 60.0


class Case(NamedTuple):
    """How the server is started."""

    name: str
    flags: tuple[str, ...]


CASES = (
    Case("plain order", ("--no-reorder", "--window", "1")),
    Case("one at a time", ("--window", "1")),
    Case("window of 4", ("--window", "4")),
    Case("window of 16", ("--window", "16")),
)


class Outcome(NamedTuple):
    """Tokens of all prompts, those cached, and each request's waiting time in seconds."""

    prompt: int
    cached: int
    waits: list[float]


def fetch(url: str) -> Any:
    """GET JSON."""
    with HTTP.open(url, timeout=30) as reply:
        return json.load(reply)


@contextlib.contextmanager
def serving(engine: Server, port: int, places: int, case: Case) -> Iterator[str]:
    """Run `contextpilot serve` in front of the engine until the hook reports there."""
    url = f"http://127.0.0.1:{port}"
    flags = ["--engine", engine.base_url, "--port", str(port), "--log-level", "error"]
    bound = ["--max-in-flight", str(places), *case.flags]
    command = [sys.executable, "-m", "contextpilot", "serve", *flags, *bound]
    process = subprocess.Popen(command, start_new_session=True)
    with ending_with_us(process.pid):
        try:
            wait_for_sync(url)
            yield url
        finally:
            process.terminate()
            process.wait()


def wait_for_sync(url: str) -> None:
    """Return once the engine's hook reports to a server."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if fetch(f"{url}/health")["engines"][0]["sync"] == "exact":
                return
        time.sleep(0.2)
    raise RuntimeError("the server is not in sync with the engine")


def body_of(request: Request) -> bytes:
    """Return the request as a client of the proxy sends it."""
    message = {"role": "user", "content": request.query}
    body = {"model": MODEL_NAME, "messages": [message], "max_tokens": 1, "temperature": 0}
    return json.dumps(body | {"contextpilot": {"contexts": request.documents}}).encode()


class Load:
    """Sends requests to one server, and counts what the engine says of them."""

    def __init__(self, url: str, bodies: Sequence[bytes]) -> None:
        self._url = url
        self._bodies = bodies
        self._upstream = Upstream(10, 600)
        self.prompt = self.cached = 0

    async def send(self, number: int) -> None:
        """Send one request."""
        url = f"{self._url}/v1/chat/completions"
        async with self._upstream.open("POST", url, JSON, self._bodies[number]) as answer:
            reply = json.loads(await answer.read())
        if answer.status != 200:
            raise RuntimeError(f"request {number}: {answer.status} {reply}")
        details = reply["usage"].get("prompt_tokens_details") or {}
        self.prompt += reply["usage"]["prompt_tokens"]
        self.cached += details.get("cached_tokens") or 0

    async def arrive(self, rate: float) -> None:
        """Send all at random, so many a second."""
        chance = random.Random(ARRIVAL_SEED)
        due, tasks = time.perf_counter(), []
        for number in range(len(self._bodies)):
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(self.send(number)))
            due += chance.expovariate(rate)
        await asyncio.gather(*tasks)


async def capacity(url: str, bodies: Sequence[bytes], places: int) -> float:
    """Return how many requests a second are served when `places` are always there."""
    load = Load(url, bodies)
    rate, _ = await closed_loop(load.send, len(bodies), places)
    return rate


async def overload(url: str, bodies: Sequence[bytes], rate: float) -> Outcome:
    """Offer all requests at this rate; return what came of it."""
    load = Load(url, bodies)
    await load.arrive(rate)
    return Outcome(load.prompt, load.cached, await waits(url, len(bodies)))


async def waits(url: str, count: int) -> list[float]:
    """Return how long each request waited, once the server has noted the last answer."""
    while True:
        known = fetch(f"{url}/requests?limit=10000")["requests"]
        found = [item["waited_s"] for item in known if item["waited_s"] is not None]
        if len(found) == count:
            return found
        await asyncio.sleep(0.1)


def processor_s(group: int) -> float:
    """Return the processor time that the processes of a group have used; Linux only."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            fields = path.read_text().rpartition(")")[2].split()
            ticks += (int(fields[11]) + int(fields[12])) * (int(fields[2]) == group)
    return ticks / os.sysconf("SC_CLK_TCK")


def line_of(name: str, found: Outcome, used_s: float) -> str:
    """Return a case's line of the table."""
    mean, p99 = sum(found.waits) / len(found.waits), percentile(found.waits, 0.99)
    return (
        f"  {name:14}{100 * found.cached / found.prompt:7.1f}{used_s:9.1f}"
        f"{mean:11.2f}{p99:8.2f}{max(found.waits):8.2f}"
    )


def bench(kind: str, requests: Sequence[Request], args: argparse.Namespace) -> None:
    """Run all cases on one engine."""
    port, bodies = free_port(), [body_of(request) for request in requests]
    env = {"CONTEXTPILOT_INDEX_URL": f"http://127.0.0.1:{port}", "VLLM_SERVER_DEV_MODE": "1"}
    model = ensure_model(environment(kind).python, args.hidden, args.layers)
    with launch(
        kind, env=env, extra_flags=flags_for(kind, args.cache_tokens), model=model
    ) as engine:
        with serving(engine, port, args.places, CASES[0]) as url:
            asyncio.run(capacity(url, bodies[:8], args.places))  # warms up
            rate = asyncio.run(capacity(url, bodies[: args.probe], args.places))
        print(f"{kind}, {args.places} at once: {rate:.2f} requests/s in the order given; "
              f"offered {args.load:g} times that")  # fmt: skip
        print(f"  {'':14}{'hits %':>7}{'engine s':>9}{'wait mean':>11}{'p99':>8}{'worst':>8}")
        for case in CASES:
            with serving(engine, port, args.places, case) as url:
                empty_cache(engine)
                before = processor_s(engine.process.pid)
                found = asyncio.run(overload(url, bodies, args.load * rate))
                used_s = processor_s(engine.process.pid) - before
            print(line_of(case.name, found, used_s), flush=True)


def main() -> None:
    """Print the table of each engine asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("engines", nargs="+", choices=("vllm", "sglang"))
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--cache-tokens", type=int, default=16_000)
    parser.add_argument("--places", type=int, default=2, help="requests that the engine takes")
    parser.add_argument("--load", type=float, default=1.5, help="arrivals over what it can serve")
    parser.add_argument("--probe", type=int, default=40, help="requests that measure the latter")
    parser.add_argument("--hidden", type=int, default=256, help="hidden size of the model")
    parser.add_argument("--layers", type=int, default=4, help="layers of the model")
    parser.add_argument("--workload", type=Path, help="NAME.json.gz with docs and requests")
    args = parser.parse_args()
    requests = read_requests(args.workload)[: args.requests]
    print(machine_line("contextpilot", "numpy", "scipy", "uvicorn"))
    name = args.workload.name.partition(".")[0] if args.workload else "demo"
    print(f"{name}: {len(requests)} requests, cache of {args.cache_tokens:,} tokens, "
          f"model of {args.layers} layers of {args.hidden}")  # fmt: skip
    for kind in args.engines:
        bench(kind, requests, args)


if __name__ == "__main__":
    import plainly

    plainly.run(main)

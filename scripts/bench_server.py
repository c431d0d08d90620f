"""Measure the server: throughput of /reorder, and what the proxy adds to a stream's latency.

    python scripts/bench_server.py reorder
    python scripts/bench_server.py proxy --streams 50

The server, the scripted upstream and the load each run in a process of their own. The proxy is
compared with the same upstream asked directly, in alternating rounds of one run.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import os
import random
import socket
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import uvicorn
import uvloop
from machine import machine_line

from contextpilot.http.pooled import Upstream
from contextpilot.server.run import serve
from contextpilot.server.settings import Settings

JSON = ((b"content-type", b"application/json"),)
NUM_BLOCKS = 20
BLOCK_CHARS = 800
CHUNKS = 40
CHUNK_INTERVAL_S = 0.02
START_TIMEOUT_S = 30.0


# -- servers ---------------------------------------------------------------------------------------


async def engine(scope: Any, receive: Any, send: Any) -> None:
    """Answer every request with a paced stream that tells when each piece was sent."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for _ in range(CHUNKS if scope["path"].startswith("/v1") else 1):
        body = b"data: %f %s\n\n" % (time.perf_counter(), b"x" * 150)
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await asyncio.sleep(CHUNK_INTERVAL_S)
    await send({"type": "http.response.body", "body": b""})


def run_engine(port: int) -> None:
    """Serve the scripted upstream."""
    uvicorn.run(engine, port=port, log_level="error", lifespan="off")


def run_server(port: int, engine_port: int | None) -> None:
    """Serve ours."""
    engines = (f"http://127.0.0.1:{engine_port}",) if engine_port else ()
    serve(Settings(engine=engines, port=port, kind="vllm", log_level="error"))


def start(target: Callable[..., None], *arguments: Any) -> tuple[Any, int]:
    """Run a server in a process; return the process and its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(
        target=target, args=(port, *arguments), daemon=True
    )
    process.start()
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return process, port
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("a server did not start")


# -- load ------------------------------------------------------------------------------------------


def contexts(count: int, seed: int = 1) -> list[list[str]]:
    """Return contexts of 20 blocks that share blocks, as retrieval over 500 documents does."""
    rng = random.Random(seed)
    documents = [
        f"Document {i}: " + "".join(rng.choices("abcdefgh ", k=BLOCK_CHARS)) for i in range(500)
    ]
    weights = [1 / (i + 1) for i in range(len(documents))]
    found = []
    for _ in range(count):
        chosen: dict[str, None] = {}
        while len(chosen) < NUM_BLOCKS:
            chosen.setdefault(rng.choices(documents, weights)[0])
        found.append(list(chosen))
    return found


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def closed_loop(
    send: Callable[[int], Awaitable[None]], total: int, workers: int
) -> tuple[float, list[float]]:
    """Send `total` requests by so many workers; return requests per second, and latencies."""
    latencies: list[float] = []
    numbers = iter(range(total))

    async def work() -> None:
        for number in numbers:
            began = time.perf_counter()
            await send(number)
            latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(workers)))
    return total / (time.perf_counter() - began), latencies


async def open_loop(
    send: Callable[[int], Awaitable[None]], total: int, rate: float
) -> tuple[list[float], list[float]]:
    """Send requests at random times, so many a second on average (a Poisson process).

    Returns:
        Latencies, counted from when each request was due; by how much each was sent too late,
        which is the load's own part in them.
    """
    latencies: list[float] = []
    delays: list[float] = []
    rng = random.Random(1)

    async def one(number: int, due: float) -> None:
        delays.append(time.perf_counter() - due)
        await send(number)
        latencies.append(time.perf_counter() - due)

    due, tasks = time.perf_counter(), []
    for number in range(total):
        due += rng.expovariate(rate)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(number, due)))
    await asyncio.gather(*tasks)
    return latencies, delays


def cpu_seconds(process: Any) -> float:
    """Return the processor time that a process has used; Linux only."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def waited_seconds(process: Any) -> float:
    """Return how long a process was ready to run and had no processor; Linux only."""
    return int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[1]) / 1e9


async def bench_reorder(process: Any, port: int, total: int) -> None:
    """Print throughput of /reorder, and latency at half of it."""
    upstream = Upstream(5, 60)
    url = f"http://127.0.0.1:{port}/reorder"
    bodies = [json.dumps({"contexts": context}).encode() for context in contexts(total)]

    async def send(number: int) -> None:
        async with upstream.open("POST", url, JSON, bodies[number % total]) as answer:
            await answer.read()
            assert answer.status == 200, answer.status

    await closed_loop(send, min(500, total), 8)
    used = cpu_seconds(process)
    rate, latencies = await closed_loop(send, total, 16)
    used = (cpu_seconds(process) - used) / total
    print(f"/reorder, {NUM_BLOCKS} blocks of {BLOCK_CHARS} characters: {rate:,.0f} requests/s")
    print(
        f"  server: {used * 1e6:,.0f} µs of processor a request, {1 / used:,.0f}/s of a free core"
    )
    print(
        f"  16 in flight: p50 {percentile(latencies, 0.5) * 1e3:.1f} ms, "
        f"p99 {percentile(latencies, 0.99) * 1e3:.1f} ms"
    )
    for half in (500.0, rate / 2):
        waited, began = waited_seconds(process), time.perf_counter()
        latencies, late = await open_loop(send, total, half)
        waited = (waited_seconds(process) - waited) / (time.perf_counter() - began)
        print(
            f"  at {half:,.0f}/s: p50 {percentile(latencies, 0.5) * 1e3:.1f} ms, "
            f"p99 {percentile(latencies, 0.99) * 1e3:.1f} ms "
            f"(p99 of the load's own delay {percentile(late, 0.99) * 1e3:.1f} ms; "
            f"the server had to wait for a processor {waited:.0%} of the time)"
        )
    upstream.close()


async def stream(upstream: Upstream, url: str, body: bytes) -> tuple[float, list[float]]:
    """Return the time to the first byte, and how long each piece was on its way."""
    began = time.perf_counter()
    first, delays = 0.0, []
    async with upstream.open("POST", url + "/v1/chat/completions", JSON, body) as answer:
        async for chunk in answer.chunks():
            now = time.perf_counter()
            first = first or now - began
            delays += [now - float(line.split()[1]) for line in chunk.split(b"\n\n") if line]
    return first, delays


async def bench_proxy(server: Any, direct: str, proxied: str, streams: int, rounds: int) -> None:
    """Print what the proxy adds, over alternating rounds of concurrent streams."""
    upstream = Upstream(5, 60)
    query = {"messages": [{"role": "user", "content": "why?"}], "stream": True}
    bodies = [
        json.dumps(query | {"contextpilot": {"contexts": context}}).encode()
        for context in contexts(streams * rounds)
    ]
    firsts: dict[str, list[float]] = {direct: [], proxied: []}
    pieces: dict[str, list[float]] = {direct: [], proxied: []}
    used = cpu_seconds(server)
    for number in range(-1, rounds):
        for url in (direct, proxied) if number % 2 else (proxied, direct):
            mine = bodies[max(0, number) * streams : (max(0, number) + 1) * streams]

            async def later(at: int, body: bytes, url: str = url) -> tuple[float, list[float]]:
                await asyncio.sleep(at * CHUNK_INTERVAL_S * CHUNKS / streams)
                return await stream(upstream, url, body)

            for first, delays in await asyncio.gather(*(later(i, b) for i, b in enumerate(mine))):
                if number >= 0:  # the first round warms up
                    firsts[url].append(first)
                    pieces[url] += delays[1:]
    upstream.close()
    used = (cpu_seconds(server) - used) / (streams * (rounds + 1))
    print(f"server: {used * 1e3:.2f} ms of processor a stream of {CHUNKS} pieces")
    for name, found in (("first byte", firsts), ("streamed piece", pieces)):
        own, other = (statistics.median(found[url]) * 1e3 for url in (proxied, direct))
        tail = (percentile(found[proxied], 0.99) - percentile(found[direct], 0.99)) * 1e3
        print(
            f"{name}, {streams} streams: direct {other:.2f} ms, through the proxy {own:.2f} ms: "
            f"adds {own - other:.2f} ms (median), {tail:.2f} ms (p99)"
        )


def main() -> int:
    """Run one of the benchmarks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("reorder", "proxy"))
    parser.add_argument("--requests", type=int, default=6000)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=6)
    arguments = parser.parse_args()
    gc.disable()  # the load is not what is measured
    print(machine_line("fastapi", "uvicorn", "uvloop", "httptools"))
    if arguments.what == "reorder":
        process, port = start(run_server, None)
        uvloop.run(bench_reorder(process, port, arguments.requests))
        process.terminate()
        return 0
    process, engine_port = start(run_engine)
    own, port = start(run_server, engine_port)
    urls = (f"http://127.0.0.1:{engine_port}", f"http://127.0.0.1:{port}")
    uvloop.run(bench_proxy(own, *urls, arguments.streams, arguments.rounds))
    own.terminate()
    process.terminate()
    return 0


if __name__ == "__main__":
    sys.exit(main())

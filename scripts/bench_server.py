"""Measure the server: throughput of /reorder, and what the proxy adds to a stream's latency.

    python scripts/bench_server.py reorder
    python scripts/bench_server.py proxy --streams 50
    python scripts/bench_server.py conversation --base OTHER_CHECKOUT

The server, the scripted upstream and the load each run in a process of their own. The proxy is
compared with the same upstream asked directly, in alternating rounds of one run. `conversation`
tells what chat bodies of 270 KB with 200 messages cost, here and with the code of another checkout,
in alternating rounds: in later turns, which hold the messages of the one before and another last
one, and where all of it is new.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import multiprocessing
import os
import random
import socket
import statistics
import subprocess
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


# -- conversations ---------------------------------------------------------------------------------


async def brief_engine(scope: Any, receive: Any, send: Any) -> None:
    """Answer every request at once, with a few bytes."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": list(JSON)})
    await send({"type": "http.response.body", "body": b'{"usage": {"prompt_tokens": 60000}}'})


def run_brief_engine(port: int) -> None:
    """Serve an upstream whose answers cost nothing."""
    uvicorn.run(brief_engine, port=port, log_level="error", lifespan="off")


def run_checkout(port: int, engine_port: int, tree: str) -> None:
    """Serve the proxy with the code of a checkout, in the process that is measured."""
    engine_url = f"http://127.0.0.1:{engine_port}"
    command = ["contextpilot", "serve", "--port", str(port), "--engine", engine_url]
    options = ["--kind", "vllm", "--log-level", "error"]
    environment = os.environ | {"PYTHONPATH": tree}
    os.chdir(tree)
    os.execve(sys.executable, [sys.executable, "-m", *command, *options], environment)


def conversation(kind: str, rng: random.Random) -> list[dict[str, Any]]:
    """Return 200 messages of 270 KB together.

    Args:
        kind: "talk"; "agent", with files that tools read; "retrieval", documents in each question.
    """
    words = ["".join(rng.choices("abcdefghijklmnopqrst", k=rng.randint(2, 9))) for _ in range(3000)]

    def text(size: int) -> str:
        lines = (" ".join(rng.choices(words, k=12)) for _ in range(size // 78 + 1))
        return "\n".join(lines)[:size]

    messages: list[dict[str, Any]] = [{"role": "system", "content": text(2000)}]
    while len(messages) < 199:
        number = len(messages)
        if kind == "agent":
            function = {"name": "read_file", "arguments": json.dumps({"path": f"{number}.py"})}
            call = {"id": f"c{number}", "type": "function", "function": function}
            messages += [
                {"role": "user", "content": text(300)},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": f"c{number}", "content": text(3500)},
                {"role": "assistant", "content": text(1500)},
            ]
        elif kind == "retrieval":
            documents = "".join(f"<document>\n{text(600)}\n</document>\n" for _ in range(3))
            messages.append({"role": "user", "content": f"{documents}\nWhat do they say?"})
            messages.append({"role": "assistant", "content": text(750)})
        else:
            messages.append({"role": "user", "content": text(1200)})
            messages.append({"role": "assistant", "content": text(1450)})
    return messages[:199]


async def bench_conversation(trees: dict[str, tuple[Any, int]], requests: int, rounds: int) -> None:
    """Print the processor time of one request, by checkout."""
    upstream = Upstream(5, 60)
    kinds = ("talk", "agent", "retrieval")
    for kind, is_new in [(kind, is_new) for is_new in (False, True) for kind in kinds]:
        used: dict[str, list[float]] = {name: [] for name in trees}
        messages = conversation(kind, random.Random(1))
        seeds = itertools.count(2)
        size = len(json.dumps({"model": "m", "messages": messages}))
        for number in range(rounds + 1):
            for name, (process, port) in trees.items():
                url = f"http://127.0.0.1:{port}/v1/chat/completions"
                before = cpu_seconds(process)
                for at in range(requests):
                    messages = (
                        conversation(kind, random.Random(next(seeds))) if is_new else messages
                    )
                    last = {"role": "user", "content": f"{number}.{at}: what follows from it?"}
                    body = json.dumps({"model": "m", "messages": [*messages, last]}).encode()
                    async with upstream.open("POST", url, JSON, body) as answer:
                        await answer.read()
                        assert answer.status == 200, answer.status
                if number:  # the first round warms up
                    used[name].append((cpu_seconds(process) - before) / requests * 1e3)
        told = {name: statistics.median(values) for name, values in used.items()}
        first = next(iter(told.values()))
        shares = ", ".join(f"{name} {ms:.1f} ms ({ms / first:.0%})" for name, ms in told.items())
        name = f"{kind}, all of it new" if is_new else f"{kind}, a later turn"
        print(f"{name}, {size / 1e3:.0f} KB: {shares} of processor a request")
    upstream.close()


def compare_checkouts(base: str | None, requests: int, rounds: int) -> None:
    """Serve this checkout, and the other if there is one, and print what each costs."""
    trees = ({"before": base} if base else {}) | {"now": str(Path(__file__).parents[1])}
    process, engine_port = start(run_brief_engine)
    servers = {name: start(run_checkout, engine_port, tree) for name, tree in trees.items()}
    for name, tree in trees.items():
        run = ["git", "-C", tree, "log", "-1", "--format=%h %s"]
        print(f"{name}: {subprocess.run(run, capture_output=True, text=True).stdout.strip()}")
    uvloop.run(bench_conversation(servers, requests, rounds))
    for server, _ in [*servers.values(), (process, 0)]:
        server.terminate()


def main() -> int:
    """Run one of the benchmarks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("reorder", "proxy", "conversation"))
    parser.add_argument("--requests", type=int, default=6000)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--base", help="another checkout, for conversations")
    arguments = parser.parse_args()
    gc.disable()  # the load is not what is measured
    print(machine_line("fastapi", "uvicorn", "uvloop", "httptools"))
    if arguments.what == "reorder":
        process, port = start(run_server, None)
        uvloop.run(bench_reorder(process, port, arguments.requests))
        process.terminate()
        return 0
    if arguments.what == "conversation":
        compare_checkouts(arguments.base, min(arguments.requests, 30), arguments.rounds)
        return 0
    process, engine_port = start(run_engine)
    own, port = start(run_server, engine_port)
    urls = (f"http://127.0.0.1:{engine_port}", f"http://127.0.0.1:{port}")
    uvloop.run(bench_proxy(own, *urls, arguments.streams, arguments.rounds))
    own.terminate()
    process.terminate()
    return 0


if __name__ == "__main__":
    import plainly

    plainly.run(main)

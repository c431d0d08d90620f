"""Load the server for a long time with everything that goes wrong, and see what it loses or keeps.

    python scripts/soak_server.py --minutes 30

Two scripted engines stand behind it; one after the other is killed and started again. Clients send
planned and plain requests, streams they leave half-way, malformed and large bodies, long heads.
Fails when a request is lost that an engine could have served, or when memory grows.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import random
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench_server import JSON, contexts, run_engine, start
from machine import machine_line

from contextpilot.server.answer import BrokenAnswerError
from contextpilot.server.run import make_server
from contextpilot.server.settings import Settings
from contextpilot.server.upstream import Upstream, UpstreamError

NUM_CLIENTS = 8
MAX_GROWTH = 1.05
LARGE_BYTES = 20 << 20
CHAT = "/v1/chat/completions"


def run_server(port: int, engines: tuple[str, ...]) -> None:
    """Serve ours, with indexes small enough to fill before the warm-up ends."""
    make_server(
        Settings(
            engine=engines,
            port=port,
            kind="vllm",
            log_level="error",
            max_blocks=5_000,
            window_size=512,
            read_timeout_s=20,
        )
    ).run()


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def memory_mb(pid: int) -> float:
    """Return the resident memory of a process; Linux only."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the process has gone")


@dataclass
class Soak:
    """The load, and what became of it."""

    url: str
    bodies: list[bytes]
    upstream: Upstream
    ends_at: float
    outcomes: Counter[str] = field(default_factory=Counter)
    rng: random.Random = field(default_factory=lambda: random.Random(1))

    async def client(self) -> None:
        """Send one request after another, of a random kind."""
        kinds = [
            (60, self.planned),
            (15, self.plain),
            (10, self.leaving),
            (10, self.malformed),
            (1, self.large),
            (4, self.long_head),
        ]
        while time.monotonic() < self.ends_at:
            (send,) = self.rng.choices([k for _, k in kinds], [w for w, _ in kinds])
            try:
                await asyncio.wait_for(send(), 60)
            except BrokenAnswerError as error:  # its engine was killed in mid-stream
                name = ", cut short with its engine" if error.has_begun else ": no answer"
                self.outcomes[send.__name__ + name] += 1
            except (UpstreamError, OSError, asyncio.TimeoutError) as error:
                self.outcomes[f"{send.__name__}: {type(error).__name__}"] += 1

    async def post(self, body: bytes, pieces: int = 1_000_000, **headers: str) -> int:
        named = [*JSON, *((k.encode(), v.encode()) for k, v in headers.items())]
        async with self.upstream.open("POST", self.url + CHAT, named, body) as answer:
            async for _ in answer.chunks():
                pieces -= 1
                if not pieces:
                    break
            return answer.status

    async def planned(self) -> None:
        status = await self.post(self.rng.choice(self.bodies))
        self.outcomes[f"planned: {status}"] += 1

    async def plain(self) -> None:
        message = {"role": "user", "content": f"hello {self.rng.random()}"}
        status = await self.post(json.dumps({"messages": [message]}).encode())
        self.outcomes[f"plain: {status}"] += 1

    async def leaving(self) -> None:
        status = await self.post(self.rng.choice(self.bodies), pieces=3)
        self.outcomes[f"leaving: {status}"] += 1

    async def malformed(self) -> None:
        body = self.rng.choice([b"{", b"[]", b"\xff", b'{"contextpilot": 1}', b'{"messages": 3}'])
        status = await self.post(body)
        self.outcomes[f"malformed: {status}"] += 1

    async def large(self) -> None:
        status = await self.post(b'{"messages": [], "x": "' + b"y" * LARGE_BYTES + b'"}')
        self.outcomes[f"large: {status}"] += 1

    async def long_head(self) -> None:
        try:
            status = await self.post(b"{}", x_long="z" * (1 << 20))
        except (UpstreamError, OSError):
            status = 431  # refused before all was sent
        self.outcomes[f"long head: {status}"] += 1


async def restart(ports: list[int], engines: list[Any], ends_at: float, pause_s: float) -> None:
    """Kill one engine after the other, and start it again; one is always up."""
    turn = 0
    while time.monotonic() < ends_at - 2 * pause_s:
        await asyncio.sleep(pause_s)
        engines[turn].kill()
        engines[turn].join()
        await asyncio.sleep(pause_s / 2)
        engines[turn] = engine_process(ports[turn])
        turn = 1 - turn


def engine_process(port: int) -> Any:
    """Start a scripted engine on a port."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=run_engine, args=(port,), daemon=True)
    process.start()
    return process


async def soak(url: str, server: Any, ports: list[int], engines: list[Any], minutes: float) -> int:
    """Run the load; print what became of it; return the exit status."""
    ends_at = time.monotonic() + 60 * minutes
    bodies = [json.dumps({"contextpilot": {"contexts": c, "query": "?"}}) for c in contexts(200)]
    load = Soak(url, [b.encode() for b in bodies], Upstream(5, 60), ends_at)
    clients = [asyncio.create_task(load.client()) for _ in range(NUM_CLIENTS)]
    faults = asyncio.create_task(restart(ports, engines, ends_at, max(5, 6 * minutes)))
    await asyncio.sleep(60 * minutes / 3)  # warm-up: the indexes are full
    samples = []
    while time.monotonic() < ends_at - 1:
        samples.append(memory_mb(server.pid))
        await asyncio.sleep(1)
    await asyncio.gather(*clients)
    faults.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await faults
    half = len(samples) // 2
    growth = max(samples[half:]) / max(samples[:half])
    for name, count in sorted(load.outcomes.items()):
        print(f"  {name:<36} {count}")
    print(
        f"memory: {samples[0]:.0f} MB after the warm-up, {samples[-1]:.0f} MB at the end; "
        f"peak of the second half / first half: {growth:.3f}"
    )
    lost = [
        n
        for n in load.outcomes
        if n.startswith(("planned: ", "plain: ", "large: ")) and not n.endswith(" 200")
    ]
    print(f"lost: {sum(load.outcomes[name] for name in lost)}")
    load.upstream.close()
    return 1 if lost or growth > MAX_GROWTH else 0


def main() -> int:
    """Run the soak."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    arguments = parser.parse_args()
    print(machine_line("fastapi", "uvicorn", "uvloop", "httptools"))
    ports = [free_port(), free_port()]
    engines = [engine_process(port) for port in ports]
    server, port = start(run_server, tuple(f"http://127.0.0.1:{port}" for port in ports))
    url = f"http://127.0.0.1:{port}"
    try:
        return asyncio.run(soak(url, server, ports, engines, arguments.minutes))
    finally:
        for process in (server, *engines):
            process.terminate()


if __name__ == "__main__":
    sys.exit(main())

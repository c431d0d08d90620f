"""Load the server for a long time with everything that goes wrong, and see what it loses or keeps.

    python scripts/soak_server.py --minutes 30

Two scripted engines stand behind it; one after the other is killed and started again, some answers
come slowly and some break off. Clients plan and stream, leave half-way, close their half of the
connection, send malformed and large bodies and long heads. Fails when a request is lost that an
engine could have served, when memory grows, or when the server logs an error.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import statistics
import tempfile
import time
import urllib.parse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from bench_server import CHUNK_INTERVAL_S, CHUNKS, JSON, contexts, start
from machine import machine_line, memory_mb

from contextpilot.http.pooled import Upstream, UpstreamError
from contextpilot.http.response import BrokenAnswerError
from contextpilot.server.request_body import Bodies
from contextpilot.server.run import serve
from contextpilot.server.settings import Settings

NUM_CLIENTS = 8
INDEX_INTERVAL_S = 0.1
MAX_GROWTH = 1.05
LARGE_BYTES = 20 << 20
READ_TIMEOUT_S = 60
"""While one engine is down, the other has no stand-in: a machine that starves stops it for longer
than half a minute, and what runs there would be lost."""
DEADLINE_S = 3 * READ_TIMEOUT_S
CHAT = "/v1/chat/completions"
SERVED = ("planned", "found", "plain", "slow", "large", "index")
"""Kinds of requests that an engine, or the index, can serve."""


# -- the servers -----------------------------------------------------------------------------------


async def engine(scope: Any, receive: Any, send: Any) -> None:
    """Stream a paced answer; slowly, or not to its end, if the request says so."""
    if scope["type"] != "http":
        return
    async with Bodies(2 * LARGE_BYTES, 1 << 40).read(receive) as body:
        await reply(scope, send, body)


async def reply(scope: Any, send: Any, body: bytes) -> None:
    """Stream the answer to one request's body."""
    if b'"soak": "slow"' in body:
        await asyncio.sleep(random.uniform(1, 5))
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number in range(CHUNKS if scope["path"].startswith("/v1") else 1):
        if number == 5 and b'"soak": "cut"' in body:
            raise ConnectionError("cut in the middle")
        piece = {"type": "http.response.body", "body": b"data: %b\n\n" % (b"x" * 150)}
        await send({**piece, "more_body": True})
        await asyncio.sleep(CHUNK_INTERVAL_S)
    await send({"type": "http.response.body", "body": b""})


def run_engine(port: int) -> None:
    """Serve the scripted engine; what it is told to break it need not log."""
    uvicorn.run(engine, port=port, log_level="critical", lifespan="off")


def run_server(port: int, engines: tuple[str, ...], log: str) -> None:
    """Serve ours, with indexes small enough to fill before the warm-up ends."""
    os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND), 2)
    serve(
        Settings(
            engine=engines,
            port=port,
            kind="vllm",
            log_level="warning",
            log_format="json",
            max_blocks=5_000,
            max_namespaces=10,
            window_size=512,
            read_timeout_s=READ_TIMEOUT_S,
        )
    )


def engine_process(port: int) -> Any:
    """Start a scripted engine on a port."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=run_engine, args=(port,), daemon=True)
    process.start()
    return process


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


# -- the load --------------------------------------------------------------------------------------


@dataclass
class Soak:
    """The load, and what became of it."""

    url: str
    contexts: list[list[str]]
    upstream: Upstream
    ends_at: float
    outcomes: Counter[str] = field(default_factory=Counter)
    rng: random.Random = field(default_factory=lambda: random.Random(1))

    async def client(self) -> None:
        """Send one request after another, of a random kind."""
        kinds = [
            (45, self.planned),
            (10, self.found),
            (10, self.plain),
            (5, self.slow),
            (10, self.leaving),
            (4, self.cut),
            (3, self.half_closed),
            (3, self.half_sent),
            (8, self.malformed),
            (1, self.large),
            (3, self.long_head),
        ]
        while time.monotonic() < self.ends_at:
            (send,) = self.rng.choices([k for _, k in kinds], [w for w, _ in kinds])
            await self.tell(send)

    async def index_client(self) -> None:
        """Use the index API at a steady rate."""
        while time.monotonic() < self.ends_at:
            await self.tell(self.index)
            await asyncio.sleep(INDEX_INTERVAL_S)

    async def tell(self, send: Any) -> None:
        """Send a request, and count what became of it."""
        name = send.__name__
        try:
            end = str(await asyncio.wait_for(send(), DEADLINE_S))
        except BrokenAnswerError as error:  # its engine was killed in mid-stream
            end = "cut short with its engine" if error.has_begun else "no answer"
        except (UpstreamError, OSError, asyncio.TimeoutError) as error:
            end = type(error).__name__
        self.outcomes[f"{name}: {end}"] += 1

    async def post(
        self, content: bytes | dict[str, Any], path: str = CHAT, pieces: int = -1, **headers: str
    ) -> int:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        named = [*JSON, *((k.encode(), v.encode()) for k, v in headers.items())]
        async with self.upstream.open("POST", self.url + path, named, body) as answer:
            async for _ in answer.chunks():
                pieces -= 1
                if not pieces:
                    break
            return answer.status

    def blocks(self, **members: Any) -> dict[str, Any]:
        return {
            "contextpilot": {"contexts": self.rng.choice(self.contexts), "query": "?"},
            **members,
        }

    def hello(self, **members: Any) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": f"hello {self.rng.random()}"}], **members}

    async def planned(self) -> int:
        return await self.post(self.blocks())

    async def found(self) -> int:
        texts = self.rng.choice(self.contexts)
        content = "".join(f"<document>\n{text}\n</document>\n" for text in texts) + "Which?"
        return await self.post({"messages": [{"role": "user", "content": content}]})

    async def plain(self) -> int:
        return await self.post(self.hello())

    async def slow(self) -> int:
        return await self.post(self.blocks(soak="slow"))

    async def cut(self) -> int:
        return await self.post(self.hello(soak="cut"))

    async def leaving(self) -> int:
        return await self.post(self.blocks(), pieces=3)

    async def malformed(self) -> int:
        bodies = [b"{", b"[]", b"\xff", b'{"contextpilot": 1}', b'{"messages": 3}']
        return await self.post(self.rng.choice(bodies))

    async def large(self) -> int:
        line = "a line of a large body\n" * 1000
        return await self.post(self.hello(x=line * (LARGE_BYTES // len(line))))

    async def long_head(self) -> int:
        try:
            return await self.post(b"{}", x_long="z" * (1 << 20))
        except (UpstreamError, OSError):
            return 431  # refused before all was sent

    async def index(self) -> int:
        if self.rng.random() < 0.1:
            async with self.upstream.open("GET", self.url + "/metrics", (), b"") as answer:
                await answer.read()
                return answer.status
        content = {
            "contexts": self.rng.choice(self.contexts),
            "namespace": f"tenant {self.rng.randrange(20)}",
        }
        if self.rng.random() < 0.5:
            return await self.post(content, "/reorder")
        return await self.post({**content, "query": "why?"}, "/optimize")

    async def half_closed(self) -> str:
        """Send a request, close this half of the connection, read what comes."""
        return await self.raw(json.dumps(self.hello()).encode(), 1.0)

    async def half_sent(self) -> str:
        """Send half of a request, and close this half of the connection."""
        return await self.raw(json.dumps(self.hello()).encode(), 0.5)

    async def raw(self, body: bytes, share: float) -> str:
        place = urllib.parse.urlsplit(self.url)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        try:
            head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body[: int(len(body) * share)])
            writer.write_eof()
            await reader.read()
            return "ended"
        finally:
            writer.close()


# -- the verdict -----------------------------------------------------------------------------------


async def watch(pid: int, seconds: float) -> list[float]:
    """Return the memory of a process, once a second."""
    samples = []
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        samples.append(memory_mb(pid))
        await asyncio.sleep(1)
    return samples


def judge(outcomes: Counter[str], samples: Sequence[float], log: Path) -> int:
    """Print what became of the load; return the exit status."""
    for name, count in sorted(outcomes.items()):
        print(f"  {name:<40} {count}")
    lost = sum(
        count
        for name, count in outcomes.items()
        if name.startswith(SERVED) and not name.endswith((" 200", " cut short with its engine"))
    )
    half = len(samples) // 2
    before, after = samples[:half], samples[half:]
    growth = statistics.median(after) / statistics.median(before)
    print(
        f"memory after the warm-up, median of the first and second half: "
        f"{statistics.median(before):.0f} and {statistics.median(after):.0f} MB ({growth:.3f}); "
        f"peaks {max(before):.0f} and {max(after):.0f} MB"
    )
    lines = [line for line in log.read_text().splitlines() if line]
    errors = [line for line in lines if '"level": "warning"' not in line]
    for line in errors[:5]:
        print(f"  {line[:300]}")
    print(f"lost: {lost}; lines logged: {len(lines)}, of these errors: {len(errors)}")
    return 1 if lost or errors or growth > MAX_GROWTH else 0


async def soak(url: str, pid: int, restarts: Any, minutes: float, log: Path) -> int:
    """Run the load; return the exit status."""
    ends_at = time.monotonic() + 60 * minutes
    load = Soak(url, contexts(200), Upstream(5, DEADLINE_S), ends_at)
    clients = [asyncio.create_task(load.client()) for _ in range(NUM_CLIENTS)]
    clients.append(asyncio.create_task(load.index_client()))
    faults = asyncio.create_task(restarts(ends_at))
    await asyncio.sleep(60 * minutes / 3)  # warm-up: the indexes are full
    begun = len(os.listdir(f"/proc/{pid}/fd"))
    samples = await watch(pid, ends_at - time.monotonic() - 1)
    await asyncio.gather(*clients)
    faults.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await faults
    load.upstream.close()
    await asyncio.sleep(1)
    ended = len(os.listdir(f"/proc/{pid}/fd"))
    print(f"open files after the warm-up and at the end: {begun}, {ended}")
    return judge(load.outcomes, samples, log)


def main() -> int:
    """Run the soak."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    minutes: float = parser.parse_args().minutes
    print(machine_line("fastapi", "uvicorn", "uvloop", "httptools"), flush=True)
    started = [start(run_engine), start(run_engine)]
    engines, ports = [p for p, _ in started], [port for _, port in started]
    log = Path(tempfile.mkstemp(suffix=".log")[1])
    urls = tuple(f"http://127.0.0.1:{port}" for port in ports)
    server, port = start(run_server, urls, str(log))

    async def restarts(ends_at: float) -> None:
        await restart(ports, engines, ends_at, max(5, 6 * minutes))

    try:
        url = f"http://127.0.0.1:{port}"
        return asyncio.run(soak(url, server.pid, restarts, minutes, log))
    finally:
        for process in (server, *engines):
            process.terminate()
        log.unlink()


if __name__ == "__main__":
    import plainly

    plainly.run(main)

"""What a streamed answer costs by the server's own HTTP client, and by libraries that are kept.

    pip install aiohttp httpx
    python scripts/bench_http_client.py [--rounds 3] [--requests 600]

A scripted engine in a process of its own answers each POST of 16 KB with a stream of server-sent
events, each event in a write of its own. Each client runs in a process of its own too, on uvloop,
with connections kept, nothing decoded and nothing retried, as its own manual says; the rounds take
turns, and the median of the rounds is shown. Processor time is that of the client's process; what
an event more costs is the difference between long and short streams. Then: what of a request and
an answer arrives as it was sent, byte for byte.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple

import uvloop
from machine import machine_line

BODY = json.dumps({"messages": [{"role": "user", "content": "x" * 16_000}]}).encode()
EVENT = b'data: {"choices":[{"delta":{"content":" token"},"index":0}],"id":"chatcmpl-1"}\n\n'
HEADERS = [
    (b"Content-Type", b"application/json"),
    (b"authorization", b"Bearer key"),
    (b"X-Request-Id", b"cp-0123456789abcdef"),
    (b"user-agent", b"some-caller/1.0"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip"),
]
ODD = [*HEADERS, (b"x-TwIcE", b"1"), (b"x-TwIcE", b"2"), (b"X-Latin", b"caf\xe9 \xff")]
SHORT, LONG = 1, 65
AT_ONCE = (1, 50)
_WARM = 50

Opened = AbstractAsyncContextManager[tuple[Any, AsyncIterator[bytes]]]
Post = Callable[[str, list[tuple[bytes, bytes]]], Opened]


class Cost(NamedTuple):
    """Of one round: processor time and time to the first event of a request, in microseconds."""

    cpu_us: float
    first_us: float


# -- the engine ------------------------------------------------------------------------------------


class ScriptedEngine(asyncio.Protocol):
    """POST /N streams N events; POST /echo tells the head of the request as it came."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        if not end:
            return
        lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-l")]
        if len(body) < int(lengths[0].split(b":")[1]):
            return
        self._data = b""
        path = head.split(b" ", 2)[1]
        if path == b"/echo":
            odd = b"HTTP/1.1 200 OK\r\nX-oDd: \xe9 1\r\ncontent-encoding: gzip\r\n"
            self._transport.write(odd + b"Content-Length: %d\r\n\r\n%b" % (len(head), head))
        else:
            task = asyncio.ensure_future(self._stream(int(path[1:])))
            task.add_done_callback(lambda task: task.exception())

    async def _stream(self, num_events: int) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
        self._transport.write(head + b"transfer-encoding: chunked\r\n\r\n")
        for _ in range(num_events):
            await asyncio.sleep(0.001)
            self._transport.write(b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
        self._transport.write(b"0\r\n\r\n")


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(ScriptedEngine, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# -- the clients -----------------------------------------------------------------------------------


@asynccontextmanager
async def contextpilot() -> AsyncIterator[Post]:
    from contextpilot.http.pooled import Upstream

    upstream = Upstream(5, 600)

    @asynccontextmanager
    async def post(url: str, headers: list[tuple[bytes, bytes]]) -> AsyncIterator[Any]:
        async with upstream.open("POST", url, headers, BODY) as answer:
            yield answer.headers, answer.chunks()

    yield post
    upstream.close()


@asynccontextmanager
async def aiohttp() -> AsyncIterator[Post]:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=600)
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, auto_decompress=False, cookie_jar=jar
    ) as session:

        @asynccontextmanager
        async def post(url: str, headers: list[tuple[bytes, bytes]]) -> AsyncIterator[Any]:
            texts = [(name.decode(), value.decode("latin-1")) for name, value in headers]
            async with session.post(
                url, headers=texts, data=BODY, skip_auto_headers=("User-Agent",)
            ) as answer:
                yield answer.raw_headers, answer.content.iter_any()

        yield post


@asynccontextmanager
async def httpx() -> AsyncIterator[Post]:
    import httpx

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=600, trust_env=False) as client:

        @asynccontextmanager
        async def post(url: str, headers: list[tuple[bytes, bytes]]) -> AsyncIterator[Any]:
            async with client.stream("POST", url, headers=headers, content=BODY) as answer:
                yield answer.headers.raw, answer.aiter_raw()

        yield post


@asynccontextmanager
async def httpcore() -> AsyncIterator[Post]:
    import httpcore

    async with httpcore.AsyncConnectionPool(max_connections=None) as pool:

        @asynccontextmanager
        async def post(url: str, headers: list[tuple[bytes, bytes]]) -> AsyncIterator[Any]:
            place = url.split("/")[2].encode()
            full = [(b"host", place), *headers, (b"content-length", b"%d" % len(BODY))]
            async with pool.stream("POST", url, headers=full, content=BODY) as answer:
                yield answer.headers, answer.aiter_stream()

        yield post


CLIENTS = {each.__name__: each for each in (contextpilot, aiohttp, httpcore, httpx)}


# -- one round of one client -----------------------------------------------------------------------


async def measure(post: Post, url: str, num_requests: int, at_once: int) -> Cost:
    """Send so many requests, `at_once` at any time."""
    left, firsts = iter(range(num_requests)), []

    async def one_after_another() -> None:
        for _ in left:
            started, first = time.perf_counter(), 0.0
            async with post(url, HEADERS) as (_, chunks):
                async for _ in chunks:
                    first = first or time.perf_counter() - started
            firsts.append(first)

    used = time.process_time()
    await asyncio.gather(*(one_after_another() for _ in range(at_once)))
    used = time.process_time() - used
    return Cost(1e6 * used / num_requests, 1e6 * statistics.median(firsts))


async def run_client(name: str, url: str, num_requests: int) -> None:
    """Print the costs of one client as JSON."""
    found = {}
    async with CLIENTS[name]() as post:
        for at_once in AT_ONCE:
            for num_events in (SHORT, LONG):
                count = num_requests if at_once > 1 else num_requests // 5
                await measure(post, f"{url}/{num_events}", _WARM, at_once)
                found[f"{at_once} {num_events}"] = await measure(
                    post, f"{url}/{num_events}", count, at_once
                )
        changes = await changed(post, f"{url}/echo")
    print(json.dumps([found, changes]))


async def changed(post: Post, url: str) -> str:
    """Return what of an odd exchange does not arrive as it was sent."""
    async with post(url, ODD) as (headers, chunks):
        seen = b"".join([chunk async for chunk in chunks]).split(b"\r\n")[1:]
        came = list(headers)
    ours = (b"host", b"content-length")
    lines = [line for line in seen if line.split(b":")[0].lower() not in ours]
    sent = [b"%b: %b" % header for header in ODD]
    faults = []
    if sorted(lines) != sorted(sent):
        wrong = [line.decode("latin-1") for line in lines if line not in sent]
        faults.append(f"request headers altered or added: {wrong}")
    elif lines != sent:
        faults.append("request headers in another order")
    if (b"X-oDd", b"\xe9 1") not in came:
        faults.append("answer headers altered")
    return "; ".join(faults) or "nothing"


# -- all of it -------------------------------------------------------------------------------------


def start(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def show(name: str, rounds: list[dict[str, list[float]]], best: dict[str, float]) -> None:
    """Print one line of the table; `best` are the figures of the first client."""
    cells = []
    for at_once in AT_ONCE:
        short, long = (
            [
                statistics.median(each[f"{at_once} {num_events}"][i] for each in rounds)
                for i in (0, 1)
            ]
            for num_events in (SHORT, LONG)
        )
        per_event = (long[0] - short[0]) / (LONG - SHORT)
        ratio = long[0] / best.setdefault(f"{at_once}", long[0])
        cells.append(
            f"{short[0]:7.0f} {per_event:7.1f} {long[0]:8.0f} {ratio:5.2f} x {short[1]:7.0f}"
        )
    print(f"{name:13}" + "   ".join(cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=600)
    args = parser.parse_args()
    print(machine_line("uvloop", "httptools", "aiohttp", "httpcore", "httpx"))
    engine = start("serve")
    assert engine.stdout is not None
    url = f"http://127.0.0.1:{engine.stdout.readline().strip()}"
    costs: dict[str, list[dict[str, list[float]]]] = {name: [] for name in CLIENTS}
    changes = {}
    try:
        for _ in range(args.rounds):
            for name in CLIENTS:
                said, _ = start("client", name, url, str(args.requests)).communicate()
                found, changes[name] = json.loads(said)
                costs[name].append(found)
    finally:
        engine.terminate()
        engine.communicate()
    print(f"processor time in µs: a request with {SHORT} event, an event more, a request with")
    print(f"{LONG} events and how many times the first client's; then µs to the first event")
    print(f"{'':13}" + "   ".join(f"{f'{at_once} at once':>40}" for at_once in AT_ONCE))
    best: dict[str, float] = {}
    for name, rounds in costs.items():
        show(name, rounds, best)
    for name, told in changes.items():
        print(f"{name:13}arrives changed: {told}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        uvloop.run(serve())
    elif sys.argv[1:2] == ["client"]:
        uvloop.run(run_client(sys.argv[2], sys.argv[3], int(sys.argv[4])))
    else:
        import plainly

        plainly.run(main)

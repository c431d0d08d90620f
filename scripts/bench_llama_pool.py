"""Print hits, balance and times of several real llama-servers behind the pool and other routers.

    python scripts/bench_llama_pool.py WORKLOAD [--engines 8] [--requests N] [--slots 4]

The llama-servers (scripts/engines/setup.py llamacpp) run a tiny random model on the CPU. For each
router their slots are erased; then the requests of a workload file come, as many at a time as there
are engines. `round robin` and `prefix hash` (of system prompt and first block) send the blocks as
given, straight to the engines; `pool` sends them to `contextpilot serve` before these. The last
engine joins after a quarter of the requests, the first leaves after half, and the second forgets
all that it holds after three quarters. Hits are what the engines report, times are until the first
token of a stream.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "engines"))

import uvicorn
from bench_waiting import quantile
from launch import MODEL_NAME, Server, free_port, launch
from machine import machine_line

from contextpilot.bench.drive import Sender, Sent
from contextpilot.bench.prompts import Prompt
from contextpilot.block import content_key
from contextpilot.commands.workload import Workload, read_workload
from contextpilot.http.pooled import Upstream
from contextpilot.prompt.messages import render_user
from contextpilot.server.run import make_server
from contextpilot.server.settings import Settings

SYSTEM = {"role": "system", "content": "Answer the question from the documents. Be brief."}
ROUTERS = ("round robin", "prefix hash", "pool")


class Fleet:
    """The engines that there are now, as one router sees them."""

    def __init__(self, router: str, urls: Sequence[str], proxy: str, slots: int) -> None:
        self._router = router
        self.urls = list(urls)
        self.proxy = proxy
        self._slots = slots
        self._upstream = Upstream(10.0, 900.0)
        self._sender = Sender(self._upstream, MODEL_NAME, 1)
        self._turn = 0
        self.sent: list[Sent] = []
        self.served: Counter[str] = Counter()

    async def serve(self, query: str, texts: Sequence[str]) -> None:
        """Send one request where the router would."""
        if self._router == "pool":
            url, members = self.proxy, {"contextpilot": {"contexts": list(texts)}}
            user = query
        else:
            url, members = self._chosen(texts), {}
            user = render_user(texts, "", query)
        prompt = Prompt(0, [SYSTEM, {"role": "user", "content": user}], members=members)
        sent = await self._sender.send(url, prompt)
        if sent.error:
            raise SystemExit(f"{url}: {sent.error}")
        self.sent.append(sent)
        self.served[url] += 1

    def _chosen(self, texts: Sequence[str]) -> str:
        if self._router == "round robin":
            self._turn += 1
            return self.urls[self._turn % len(self.urls)]
        return max(self.urls, key=lambda url: content_key(texts[0] + url))

    async def join(self, url: str) -> None:
        """Let an engine join."""
        self.urls.append(url)
        if self._router == "pool":
            await self._ask("POST", f"{self.proxy}/engines", b'{"url": "%s"}' % url.encode())

    async def leave(self, url: str) -> None:
        """Let an engine leave."""
        self.urls.remove(url)
        if self._router == "pool":
            await self._ask("DELETE", f"{self.proxy}/engines/{url.partition('//')[2]}")

    async def erase(self, url: str) -> None:
        """Empty an engine's slots: all that it held is gone."""
        for slot in range(self._slots):
            await self._ask("POST", f"{url}/slots/{slot}?action=erase")

    async def _ask(self, method: str, url: str, body: bytes = b"") -> None:
        headers = [(b"content-type", b"application/json")]
        async with self._upstream.open(method, url, headers, body) as answer:
            text = await answer.read()
            if answer.status >= 300:
                raise SystemExit(f"{method} {url}: {answer.status} {text[:200]!r}")

    async def counts(self) -> list[int]:
        """Return how many requests each engine got."""
        if self._router != "pool":
            return list(self.served.values())
        async with self._upstream.open("GET", f"{self.proxy}/health", [], b"") as answer:
            return [one["served"] for one in json.loads(await answer.read())["engines"]]

    def close(self) -> None:
        """Close connections."""
        self._upstream.close()


async def run(fleet: Fleet, workload: Workload, last: str) -> None:
    """Serve a workload while engines join, leave and forget."""
    count, places = len(workload.queries), asyncio.Semaphore(len(fleet.urls) + 1)
    everyone, tasks = [*fleet.urls, last], []
    for url in everyone:
        await fleet.erase(url)

    async def one(number: int) -> None:
        texts = [block.text for block in workload.contexts[number]]
        await fleet.serve(workload.queries[number], texts)
        places.release()

    for number in range(count):
        await places.acquire()
        if number == count // 4:
            await fleet.join(last)
        if number == count // 2:
            await fleet.leave(everyone[0])
        if number == count * 3 // 4:
            await fleet.erase(everyone[1])
        tasks.append(asyncio.ensure_future(one(number)))
    await asyncio.gather(*tasks)


@contextlib.contextmanager
def serving(urls: Sequence[str], port: int) -> Iterator[uvicorn.Server]:
    """Run our server before the engines."""
    server = make_server(Settings(engine=tuple(urls), port=port, kind="llamacpp"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server
    server.should_exit = True
    thread.join(10)


def row(router: str, engines: Sequence[Server], workload: Workload, port: int, slots: int) -> str:
    """Return a router's figures."""
    urls = [engine.base_url for engine in engines]
    proxy = f"http://127.0.0.1:{port}"

    async def all_of_it() -> list[Any]:
        fleet = Fleet(router, urls[:-1], proxy, slots)
        try:
            await run(fleet, workload, urls[-1])
            return [fleet.sent, await fleet.counts()]
        finally:
            fleet.close()

    with serving(urls[:-1], port) if router == "pool" else contextlib.nullcontext():
        sent, counts = asyncio.run(all_of_it())
    prompt = sum(one.prompt_tokens or 0 for one in sent)
    hits = sum(one.cached_tokens or 0 for one in sent)
    times = [one.ttft_s for one in sent]
    cells = [router, f"{100 * hits / prompt:.1f}", f"{max(counts) * len(counts) / sum(counts):.2f}"]
    cells += [f"{sum(times) / len(times):.2f}"]
    cells += [f"{quantile(times, share):.2f}" for share in (0.5, 0.99)]
    return f"| {' | '.join(cells)} | {prompt - hits:,} |"


def main() -> None:
    """Print a row for each router."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("workload", type=Path)
    parser.add_argument("--engines", type=int, default=8)
    parser.add_argument("--requests", type=int, help="use the first N")
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--routers", nargs="+", choices=ROUTERS, default=ROUTERS)
    args = parser.parse_args()
    workload = read_workload(str(args.workload)).first(args.requests)
    print(machine_line(), end="\n\n")
    port = free_port()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        slots = ["--parallel", str(args.slots), "--ctx-size", str(8192 * args.slots)]
        flags = [*slots, "--cache-ram", "0", "--slot-save-path", folder]
        env = {"CONTEXTPILOT_INDEX_URL": f"http://127.0.0.1:{port}"}
        engines = []
        for _ in range(args.engines):
            started = launch("llamacpp", env=env, extra_flags=flags, timeout=900.0)
            engines.append(stack.enter_context(started))
        print(
            f"{args.engines} llama-servers of {args.slots} slots, {workload.name}, "
            f"{len(workload.queries)} requests\n\n"
            "| router | hit % | busiest / mean | first token: mean s | p50 | p99 | computed |\n"
            "|---|---|---|---|---|---|---|"
        )
        for router in args.routers:
            print(row(router, engines, workload, port, args.slots), flush=True)


if __name__ == "__main__":
    import plainly

    plainly.run(main)

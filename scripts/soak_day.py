"""A day's worth of requests through one server, and whether its belief is true at the end.

    python scripts/soak_day.py --requests 200000

A scripted engine with a prefix cache of its own (blocks of 16 tokens, bounded, the least recently
used leaves go) stands behind the server and tells of it through the hooks' own ledger and reporter.
It restarts every thousand requests, with an empty cache and a new epoch, without farewell. 500
conversations share a system prompt; each asks about documents of its own and of all.

Fails when a request is lost, when belief is more than a block above what the engine holds or more
than a document and the question below; over long runs also when memory grows or the loop stalls.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bench_server import JSON, start
from daily.engine import BLOCK_TOKENS, CHARS_PER_TOKEN, run_engine
from daily.server import run_server
from machine import machine_line

from contextpilot.http.pooled import Upstream, UpstreamError

NUM_CLIENTS = 16
NUM_CONVERSATIONS = 500
DOCUMENT_TOKENS = 100
NUM_OWN, NUM_COMMON, NUM_ASKED = 12, 400, 6
MAX_TURNS = 8
_LETTERS = str.maketrans("0123456789", "ghijklmnop")
SYSTEM = "Answer from the documents alone. " * 12
WARM_UP = 0.2
MAX_GROWTH = 1.05
MAX_STALL_MS = 50.0
LONG_RUN = 50_000
"""Requests from which on memory and stalls are judged: fewer fill no bound."""
SETTLE_S = 30.0
MAX_BELOW = DOCUMENT_TOKENS + 80
"""Belief counts whole documents, and not the question after them with the note on their order."""


# -- the load --------------------------------------------------------------------------------------


@dataclass
class Conversation:
    """One conversation; after some turns it begins anew."""

    number: int
    rng: random.Random
    history: list[dict[str, str]] = field(default_factory=list)

    def next_body(self) -> dict[str, Any]:
        """Return the body of its next request."""
        if len(self.history) >= 2 * MAX_TURNS:
            self.history.clear()
        own = [f"{self.number}.{self.rng.randrange(NUM_OWN)}" for _ in range(NUM_ASKED // 2)]
        common = [f"{int(self.rng.paretovariate(0.7)) % NUM_COMMON}" for _ in range(NUM_ASKED // 2)]
        question = {"role": "user", "content": f"Question {self.rng.randrange(1000)}?"}
        messages = [{"role": "system", "content": SYSTEM}, *self.history, question]
        answer = {"role": "assistant", "content": "It is as the documents say."}
        self.history += [question, answer]
        names = dict.fromkeys([*own, *common])
        return {
            "model": "m",
            "messages": messages,
            "contextpilot": {"contexts": [document(name) for name in names]},
        }


def document(name: str) -> str:
    """Return a document's text, always the same, of words that an estimate takes for a token."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    words = [digest[at : at + CHARS_PER_TOKEN].translate(_LETTERS) for at in range(0, 40, 4)]
    text = f"{' '.join(words)} " * DOCUMENT_TOKENS
    return text[: DOCUMENT_TOKENS * CHARS_PER_TOKEN]


class Load:
    """Sends the requests of all conversations, and counts what becomes of them."""

    def __init__(self, url: str, total: int) -> None:
        self.upstream = Upstream(5, 60)
        self.url = url
        self.outcomes: Counter[str] = Counter()
        self.hits = self.tokens = 0
        self._numbers = iter(range(total))
        self._rng = random.Random(1)
        self._talks = [Conversation(n, random.Random(n)) for n in range(NUM_CONVERSATIONS)]

    @property
    def num_done(self) -> int:
        """Requests that were answered, or lost."""
        return sum(self.outcomes.values())

    async def client(self) -> None:
        """Send one request after another."""
        for _ in self._numbers:
            body = json.dumps(self._rng.choice(self._talks).next_body()).encode()
            try:
                usage = await self._send(body)
            except (UpstreamError, OSError) as error:
                self.outcomes[type(error).__name__] += 1
                continue
            self.outcomes["answered"] += 1
            self.tokens += usage["prompt_tokens"]
            self.hits += usage["prompt_tokens_details"]["cached_tokens"]

    async def _send(self, body: bytes) -> Any:
        url = f"{self.url}/v1/chat/completions"
        async with self.upstream.open("POST", url, JSON, body) as answer:
            content = await answer.read()
            if answer.status != 200:
                raise UpstreamError(answer.status, "not answered")
            return json.loads(content)["usage"]


async def ask(upstream: Upstream, method: str, url: str, content: Any = None) -> Any:
    """Ask one of the two servers about itself."""
    body = b"" if content is None else json.dumps(content).encode()
    async with upstream.open(method, url, JSON, body) as answer:
        return json.loads(await answer.read())


# -- what was seen ---------------------------------------------------------------------------------


class Sample(tuple[int, float, float, float]):
    """Requests done, memory in MB, longest stalls since the last in ms: ours, and by the clock."""


async def watch(load: Load, samples: list[Sample], total: int) -> None:
    """Sample the server once a second; tell how far the load is, now and then."""
    step, began = max(1, total // 10), time.monotonic()
    told = step
    while True:
        await asyncio.sleep(1)
        state = await ask(load.upstream, "GET", f"{load.url}/soak/state")
        sample = Sample((load.num_done, state["memory_mb"], state["stall_ms"], state["clock_ms"]))
        samples.append(sample)
        if load.num_done >= told:
            told += step
            rate = load.num_done / (time.monotonic() - began)
            memory, stall = state["memory_mb"], max(one[2] for one in samples)
            row = f"| {load.num_done:,} | {rate:,.0f} | {memory:,.0f} | {stall:.0f} |"
            print(f"{row} {100 * load.hits / max(1, load.tokens):.1f} |", flush=True)


async def compare(load: Load, engine: str) -> tuple[int, int, int]:
    """Compare belief with truth until they agree, or for so long; every request that has a name.

    Returns:
        Requests, the most tokens that are believed above the truth, and the most below it.
    """
    deadline = time.monotonic() + SETTLE_S
    while True:
        believed: dict[str, int] = await ask(load.upstream, "GET", f"{load.url}/soak/belief")
        held = await ask(load.upstream, "POST", f"{engine}/soak/truth", list(believed))
        apart = [believed[name] - held.get(name, 0) for name in believed]
        above, below = max(0, *apart), max(0, *(-one for one in apart))
        if (above <= BLOCK_TOKENS and below <= MAX_BELOW) or time.monotonic() > deadline:
            return len(apart), above, below
        await asyncio.sleep(0.5)


def judge(load: Load, samples: Sequence[Sample], belief: tuple[int, int, int], total: int) -> int:
    """Print what was seen; return the exit status."""
    named, above, below = belief
    warm = [one for one in samples if one[0] >= WARM_UP * total] or list(samples)
    quarter = max(1, len(warm) // 4)
    first = statistics.median(one[1] for one in warm[:quarter])
    last = statistics.median(one[1] for one in warm[-quarter:])
    stall, clock = max(one[2] for one in samples), max(one[3] for one in samples)
    print(f"answered: {load.outcomes['answered']:,} of {total:,}; lost: {total - load.num_done:,}")
    print(f"other outcomes: {dict(load.outcomes - Counter(answered=load.outcomes['answered']))}")
    print(f"memory after the warm-up, first and last quarter: {first:.0f} and {last:.0f} MB")
    print(f"longest stall of the event loop: {stall:.0f} ms of our own ({clock:.0f} by the clock)")
    print(f"belief of {named:,} requests: at most {above} tokens above the engine's own cache")
    print(f"  (blocks of {BLOCK_TOKENS}) and {below} below ({MAX_BELOW}: document and question)")
    faults = [load.outcomes["answered"] < total, not named]
    faults += [above > BLOCK_TOKENS, below > MAX_BELOW]
    if total >= LONG_RUN:
        faults += [last > MAX_GROWTH * first, stall > MAX_STALL_MS]
    return int(any(faults))


async def soak(url: str, engine: str, total: int) -> int:
    """Run the load; return the exit status."""
    load, samples, began = Load(url, total), list[Sample](), time.monotonic()
    print("| requests | a second | memory MB | longest stall ms | hits % |")
    print("|---|---|---|---|---|", flush=True)
    watching = asyncio.create_task(watch(load, samples, total))
    await asyncio.gather(*(load.client() for _ in range(NUM_CLIENTS)))
    seconds = time.monotonic() - began
    await asyncio.sleep(1.5)
    watching.cancel()
    belief = await compare(load, engine)
    print(f"{total / seconds:,.0f} requests a second for {seconds:,.0f} s")
    status = judge(load, samples, belief, total)
    load.upstream.close()
    return status


def main() -> int:
    """Run the soak."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--restart-every", type=int, default=1_000)
    arguments = parser.parse_args()
    print(machine_line("fastapi", "uvicorn", "uvloop"), flush=True)
    engine, engine_port = start(run_engine, arguments.restart_every)
    server, port = start(run_server, engine_port)
    places = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{engine_port}"
    try:
        status = asyncio.run(_run(*places, arguments.requests))
    finally:
        for process in (server, engine):
            process.terminate()
            process.join(10)
    return status


async def _run(url: str, engine: str, total: int) -> int:
    upstream = Upstream(5, 60)
    await ask(upstream, "POST", f"{engine}/soak/begin", {"index_url": url})
    upstream.close()
    return await soak(url, engine, total)


if __name__ == "__main__":
    import plainly

    plainly.run(main)

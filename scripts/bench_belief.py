"""Print how true belief stays on a real engine, request after request, past the hooks' bounds.

    python scripts/bench_belief.py vllm --requests 6000 [--cache-tokens N] [--bound N]

`contextpilot serve` stands before the engine (scripts/engines sets it up; tiny random model, CPU).
Prompts have a system prompt and documents of equal length in varying order, as a search finds them;
all are of the same words, since the server estimates tokens from characters, the same for all.
The server says how many documents it believes to be cached (X-ContextPilot-Result), the engine how
many tokens really were. `--bound` lets the hooks follow that many requests only (and as little of
their blocks or tokens), so that the bound is passed early. The same requests go through a second
server, which hears nothing of the engine's cache, from an emptied cache.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TextIO

sys.path.insert(0, str(Path(__file__).parent / "engines"))

from environments import environment
from families import FAMILIES, ensure_family
from launch import HTTP, MODEL_NAME, Server, free_port, launch
from machine import machine_line

PAGE = {"vllm": 32, "sglang": 16, "llamacpp": 1}
WORDS = [
    "amber",
    "basil",
    "cedar",
    "delta",
    "ember",
    "fable",
    "grove",
    "harbor",
    "island",
    "jungle",
    "kernel",
    "lantern",
]
SYSTEM = {"role": "system", "content": "0000 " + " ".join(WORDS * 4)}
DOCUMENTS, PER_REQUEST = 80, 8
MARGIN = 6
"""Tokens by which the place of the first document in the prompt may be off."""
SETTLED = 300
"""The last requests, each sent only when what the engine tells must have arrived."""


class Seen(NamedTuple):
    """One request: documents believed, tokens cached and of the prompt."""

    believed: int
    cached: int
    prompt: int


class Measure(NamedTuple):
    """Tokens before the first document, and of each document; the first is known to `MARGIN`."""

    head: int
    document: int

    def most(self, cached: int, page: int) -> int:
        """Documents of which at most a page is missing, in favour of belief."""
        return max(0, (cached - self.head + page - 1 + MARGIN) // self.document)

    def least(self, cached: int) -> int:
        """Documents that are cached for certain."""
        return max(0, (cached - self.head - MARGIN) // self.document)


def flags_for(engine: str, cache_tokens: int, cache_ram: int) -> list[str]:
    """The flags that make an engine's cache so large; `cache_ram` in MiB, for llama-server."""
    page = PAGE[engine]
    if engine == "vllm":
        blocks = cache_tokens // page + 1  # block 0 holds nothing
        return ["--max-model-len", "4096", "--num-gpu-blocks-override", str(blocks)]
    if engine == "sglang":
        return ["--max-total-tokens", str(cache_tokens), "--page-size", str(page)]
    return ["--ctx-size", str(cache_tokens), "--cache-ram", str(cache_ram)]


def bounds_for(bound: int) -> dict[str, str]:
    """The variables that let the hooks follow so many requests only."""
    if not bound:
        return {}
    held = {"REQUESTS": bound, "BLOCKS": bound * 40, "TOKENS": bound * 1200}
    return {f"CONTEXTPILOT_HOOK_MAX_{name}": str(value) for name, value in held.items()}


@contextmanager
def serving(engine_url: str, port: int) -> Iterator[str]:
    """`contextpilot serve` before an engine, until the block ends."""
    command = [sys.executable, "-m", "contextpilot", "serve", "--engine", engine_url]
    options = ["--port", str(port), "--no-annotate", "--log-level", "warning"]
    process = subprocess.Popen([*command, *options])
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def texts() -> list[str]:
    """Documents of the same words, so of as many tokens; all differ from their first word on."""
    chance = random.Random(11)
    words = [*WORDS * 3, *WORDS[:4]]
    return [
        f"{number:04d} " + " ".join(chance.sample(words, len(words))) for number in range(DOCUMENTS)
    ]


def requests(count: int, documents: list[str]) -> Iterator[list[str]]:
    """What a search finds: some documents often, in an order that varies."""
    chance = random.Random(5)
    weights = [1 / (rank + 8) for rank in range(len(documents))]
    for _ in range(count):
        found: dict[str, None] = {}
        while len(found) < PER_REQUEST:
            found[chance.choices(documents, weights)[0]] = None
        yield list(found)


def post(url: str, content: Any) -> Any:
    """POST JSON; return the open reply."""
    import urllib.request

    body, headers = json.dumps(content).encode(), {"Content-Type": "application/json"}
    return HTTP.open(urllib.request.Request(url, body, headers), timeout=120)


def ask(url: str, documents: list[str]) -> Seen:
    """Send one request through a server."""
    query = "9999 " + " ".join(WORDS[:5])
    messages = [SYSTEM, {"role": "user", "content": query}]
    body = {
        "model": MODEL_NAME,
        "messages": messages,
        "max_tokens": 1,
        "temperature": 0,
        "contextpilot": {"contexts": documents, "query": query},
    }
    with post(f"{url}/v1/chat/completions", body) as reply:
        told = json.loads(reply.headers["X-ContextPilot-Result"])
        usage: Any = json.loads(reply.read())["usage"]
    details = usage.get("prompt_tokens_details") or {}
    return Seen(
        told.get("live_blocks", 0), details.get("cached_tokens") or 0, usage["prompt_tokens"]
    )


def measure(url: str, server: Server, documents: list[str]) -> Measure:
    """Learn from the engine's own counts how long head and documents are."""
    few, more = ask(url, documents[:2]), ask(url, documents[:6])
    messages = [SYSTEM, {"role": "user", "content": "x"}]
    body = {"model": MODEL_NAME, "messages": messages, "max_tokens": 1}
    reply: Any = server.post("/v1/chat/completions", body)
    return Measure(reply["usage"]["prompt_tokens"] - MARGIN, (more.prompt - few.prompt) // 4)


def empty_cache(server: Server) -> None:
    """Drop the engine's cache, where it can be told to."""
    path = {"vllm": "/reset_prefix_cache", "sglang": "/flush_cache"}.get(server.engine)
    if path:
        server.post(path, {})


def run(
    name: str, url: str, server: Server, count: int, bound: int, record: TextIO | None
) -> list[Seen]:
    """All requests through one server; prints how it goes."""
    documents = texts()
    empty_cache(server)
    learnt = measure(url, server, documents)
    empty_cache(server)
    post(f"{url}/reset", {}).close()  # or a server that hears nothing starts with those prompts
    time.sleep(1)
    seen: list[Seen] = []
    started = time.monotonic()
    for number, found in enumerate(requests(count, documents), 1):
        if number > count - SETTLED and name == "synced":
            time.sleep(0.08)
        seen.append(ask(url, found))
        if record is not None:
            record.write(json.dumps([name, number, *seen[-1], *learnt]) + "\n")
        if number % max(100, count // 20) == 0 or number == count:
            part = seen[-max(100, count // 20) :]
            print(f"  {name} {number:5d}: {ratio(part):5.1f} % cached, "
                  f"{compare(part, learnt, PAGE[server.engine])}, "
                  f"{time.monotonic() - started:.0f} s", flush=True)  # fmt: skip
    summary(name, seen, learnt, PAGE[server.engine], bound)
    return seen


def summary(name: str, seen: list[Seen], learnt: Measure, page: int, bound: int) -> None:
    """Print the last requests, and the hit ratio before and after the bound."""
    print(f"{name}: {ratio(seen):.2f} % of all prompt tokens cached")
    print(f"  the last {SETTLED}: {compare(seen[-SETTLED:], learnt, page)}")
    edge = bound or len(seen) // 2
    width = min(1000, edge, len(seen) - edge)
    print(f"  {width} requests before request {edge}: {ratio(seen[edge - width : edge]):.2f} %, "
          f"the last {width}: {ratio(seen[-width:]):.2f} %")  # fmt: skip


def ratio(seen: list[Seen]) -> float:
    """Per cent of the prompt tokens that were cached."""
    return 100 * sum(s.cached for s in seen) / sum(s.prompt for s in seen)


def compare(seen: list[Seen], learnt: Measure, page: int) -> str:
    """How many documents were believed and really cached, and how often which was more."""
    above = sum(s.believed > learnt.most(s.cached, page) for s in seen)
    below = sum(s.believed < learnt.least(s.cached) for s in seen)
    believed = statistics.mean(s.believed for s in seen)
    cached = statistics.mean(learnt.most(s.cached, page) for s in seen)
    return (
        f"documents believed {believed:.2f}, cached {cached:.2f}; "
        f"above {above}, below {below} of {len(seen)}"
    )


def bench(
    engine: str,
    count: int,
    cache_tokens: int,
    bound: int,
    cache_ram: int = 0,
    record: TextIO | None = None,
    family: str = "",
    more_flags: Sequence[str] = (),
) -> None:
    """Both runs on one engine."""
    model = ensure_family(environment(engine).python, family) if family else None
    flags = [*flags_for(engine, cache_tokens, cache_ram), *more_flags]
    if family:
        flags += ["--load-format", "dummy"]
    ours, deaf = free_port(), free_port()
    env = {
        "CONTEXTPILOT_INDEX_URL": f"http://127.0.0.1:{ours}",
        "VLLM_SERVER_DEV_MODE": "1",
        **bounds_for(bound),
    }
    with launch(engine, env=env, extra_flags=flags, model=model) as server:
        what = f"bound of {bound} requests" if bound else "the hooks' own bounds"
        print(
            f"{engine} {family}, cache of {cache_tokens:,} tokens, {count} requests, {what}",
            flush=True,
        )
        with serving(server.base_url, ours) as synced, serving(server.base_url, deaf) as unsynced:
            wait_for(synced, unsynced)
            heard = run("synced", synced, server, count, bound, record)
            print(f"  sync: {health(synced)}")
            blind = run("unsynced", unsynced, server, count, bound, record)
        print(f"synced {ratio(heard):.2f} %, unsynced {ratio(blind):.2f} %")


def wait_for(synced: str, unsynced: str) -> None:
    """Return once both servers answer, and one hears of the engine."""
    heard = False
    deadline = time.monotonic() + 60
    while not heard and time.monotonic() < deadline:
        time.sleep(0.2)
        with suppress(OSError):
            health(unsynced)
            heard = bool(health(synced))
    if not heard:
        raise RuntimeError("the server hears nothing of the engine")
    time.sleep(6)


def health(url: str) -> Any:
    """What a server says of the reporters."""
    with HTTP.open(f"{url}/health", timeout=10) as reply:
        known = json.loads(reply.read())["sync"]
    return {name: (one["sync"], one["num_events"], one["num_gaps"]) for name, one in known.items()}


def main() -> None:
    """Run the engines asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("engines", nargs="+", choices=sorted(PAGE))
    parser.add_argument("--requests", type=int, default=6000)
    parser.add_argument("--cache-tokens", type=int, default=24_000)
    parser.add_argument("--bound", type=int, default=0, help="requests that the hooks follow")
    parser.add_argument("--cache-ram", type=int, default=0, help="llama-server's RAM cache, MiB")
    parser.add_argument("--family", default="", choices=sorted(FAMILIES), help="of vLLM's model")
    parser.add_argument("--flag", action="append", default=[], help="of the engine; repeat it")
    parser.add_argument("--record", type=Path, help="file that each request is appended to")
    arguments = parser.parse_args()
    print(machine_line())
    with ExitStack() as files:
        record = files.enter_context(arguments.record.open("a", 1)) if arguments.record else None
        for engine in arguments.engines:
            sizes = arguments.requests, arguments.cache_tokens, arguments.bound
            more = arguments.cache_ram, record, arguments.family, arguments.flag
            bench(engine, *sizes, *more)


if __name__ == "__main__":
    import plainly

    plainly.run(main)

"""Print the hit ratio that a real engine reports under a small cache: plain, not synced, synced.

    python scripts/bench_sync.py vllm [sglang] [--requests N] [--cache-tokens N] [--workload FILE]

Each engine runs unchanged on the CPU (scripts/engines/setup.py sets it up) with a tiny random
model and a small KV cache. The same requests go through it in three modes, each from an empty
cache, in one run: as given; planned by `optimize` without events; planned with the hooks' events.
The engine's own `cached_tokens` are counted. Default workload: that of `contextpilot demo`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent / "engines"))

from launch import MODEL_NAME, Server, free_port, launch
from machine import machine_line

import contextpilot as cp
from contextpilot.commands.corpus import passages, retrieve
from contextpilot.commands.questions import questions
from contextpilot.prompt.messages import Messages

BLOCK = 32
MODES = ("plain", "online", "synced")


class Request(NamedTuple):
    """A question and its documents, most relevant first."""

    query: str
    documents: list[str]


def read_requests(path: Path | None) -> list[Request]:
    """Return the requests of a workload file, or those of the demo."""
    if path is None:
        texts, asked = passages(), list(questions())
        found = retrieve(texts, asked)
        return [
            Request(query, [texts[i] for i in positions])
            for query, positions in zip(asked, found, strict=True)
        ]
    with gzip.open(path) as file:
        workload = json.load(file)
    return [
        Request(item["query"], [workload["docs"][i] for i in dict.fromkeys(item["contexts"])])
        for item in workload["requests"]
    ]


def flags_for(engine: str, cache_tokens: int) -> list[str]:
    """Return the flags that make an engine's cache small."""
    if engine == "vllm":
        longest = min(8192, cache_tokens // BLOCK * BLOCK)
        blocks = cache_tokens // BLOCK + 1  # block 0 holds nothing
        return ["--max-model-len", str(longest), "--num-gpu-blocks-override", str(blocks)]
    return ["--max-total-tokens", str(cache_tokens), "--page-size", "16"]


def empty_cache(server: Server) -> None:
    """Drop the engine's cache."""
    path = "/reset_prefix_cache" if server.engine == "vllm" else "/flush_cache"
    server.post(path, {})


def send(server: Server, messages: Messages) -> tuple[int, int]:
    """Send one request; return its prompt tokens and those that the engine had cached."""
    body: dict[str, Any] = {"model": MODEL_NAME, "messages": list(messages), "max_tokens": 1}
    if server.engine == "sglang":
        body["rid"] = messages.request_id
    reply: Any = server.post("/v1/chat/completions", body, X_Request_Id=messages.request_id)
    details = reply["usage"].get("prompt_tokens_details") or {}
    return reply["usage"]["prompt_tokens"], details.get("cached_tokens") or 0


def run(server: Server, mode: str, requests: Sequence[Request], pilot: cp.ContextPilot) -> str:
    """Run all requests in one mode; return the line to print."""
    empty_cache(server)
    prompt = cached = 0
    started = time.monotonic()
    for request in requests:
        messages = pilot.optimize(request.documents, request.query, reorder=mode != "plain")
        tokens, hit = send(server, messages)
        prompt, cached = prompt + tokens, cached + hit
    seconds = time.monotonic() - started
    return (
        f"  {mode:7s} {cached:9,} of {prompt:9,} prompt tokens cached: "
        f"{100 * cached / prompt:5.2f} %, {seconds:.0f} s"
    )


def bench(engine: str, requests: Sequence[Request], cache_tokens: int) -> None:
    """Run all modes on one engine."""
    address = f"127.0.0.1:{free_port()}"
    env = {"CONTEXTPILOT_INDEX_URL": f"http://{address}", "VLLM_SERVER_DEV_MODE": "1"}
    with (
        cp.ContextPilot(listen=address) as synced,
        launch(engine, env=env, extra_flags=flags_for(engine, cache_tokens)) as server,
    ):
        [state] = synced.engines().values()
        print(f"{engine} {state['engine_version']}, cache of {cache_tokens:,} tokens, "
              f"{len(requests)} requests")  # fmt: skip
        for mode in MODES:
            pilot = synced if mode == "synced" else cp.ContextPilot()
            print(run(server, mode, requests, pilot), flush=True)
        [state] = synced.engines().values()
        print(f"  sync {state['sync']}, {state['num_events']:,} events, {state['num_gaps']} gaps")


def main() -> None:
    """Print the figures of the engines asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("engines", nargs="+", choices=("vllm", "sglang"))
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--cache-tokens", type=int, default=16_000)
    parser.add_argument("--workload", type=Path, help="NAME.json.gz with docs and requests")
    arguments = parser.parse_args()
    requests = read_requests(arguments.workload)[: arguments.requests]
    print(machine_line())
    for engine in arguments.engines:
        bench(engine, requests, arguments.cache_tokens)


if __name__ == "__main__":
    import plainly

    plainly.run(main)

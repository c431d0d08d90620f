"""Print the prefill that ContextPilot spares a real llama-server: with it, and without.

    python scripts/bench_llama.py [--workload FILE ...] [--requests N] [--slots N]

Three llama-servers (scripts/engines/setup.py llamacpp) run a tiny random model on the CPU. In turns
they get a request each: the one as it is given, the other through our server, which plans one at a
time, and the third as planned together by `optimize_batch`, in that order. Prompt tokens that had
to be computed, and their time, are what llama-server's `timings` report. Default workload: that of
`contextpilot demo`.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "engines"))

import uvicorn
from bench_sync import Request, read_requests
from launch import MODEL_NAME, Server, free_port, launch
from machine import machine_line

import contextpilot as cp
from contextpilot.server.run import make_server
from contextpilot.server.settings import Settings

FLAGS = ("--threads", "1")


@dataclass
class Side:
    """What one llama-server computed.

    Attributes:
        prompt, computed: prompt tokens, and those that were not in a slot.
        milliseconds: that the computed ones took.
    """

    prompt: int = 0
    computed: int = 0
    milliseconds: float = 0.0

    def add(self, reply: Any) -> None:
        """Add what an answer was timed with."""
        timings = reply["timings"]
        self.prompt += timings["prompt_n"] + timings["cache_n"]
        self.computed += timings["prompt_n"]
        self.milliseconds += timings["prompt_ms"]


@contextlib.contextmanager
def serving(engine_port: int, port: int) -> Iterator[uvicorn.Server]:
    """Run our server before an engine."""
    server = make_server(Settings(engine=(f"http://127.0.0.1:{engine_port}",), port=port))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server
    server.should_exit = True
    thread.join(10)


def compare(requests: Sequence[Request], flags: Sequence[str]) -> tuple[Side, Side, Side]:
    """Send all requests to each side; return what each computed: plain, online, batch."""
    plain, online, batch = Side(), Side(), Side()
    port, engine_port = free_port(), free_port()
    given = cp.ContextPilot()
    env = {"CONTEXTPILOT_INDEX_URL": f"http://127.0.0.1:{port}"}
    with (
        serving(engine_port, port) as server,
        launch("llamacpp", extra_flags=flags) as alone,
        launch("llamacpp", port=engine_port, env=env, extra_flags=flags) as engine,
        launch("llamacpp", extra_flags=flags) as third,
    ):
        proxy = Server("proxy", f"http://127.0.0.1:{port}", engine.log, engine.process)
        pool = server.config.app.state.service.pool  # type: ignore[union-attr]
        while pool.engines[0].slots is None:
            time.sleep(0.1)
        together = planned(requests)
        for request, batched in zip(requests, together, strict=True):
            messages = given.optimize(request.documents, request.query, reorder=False)
            plain.add(ask(alone, list(messages)))
            question = [{"role": "user", "content": request.query}]
            blocks = {"contexts": request.documents}
            online.add(ask(proxy, question, contextpilot=blocks))
            batch.add(ask(third, batched))
    return plain, online, batch


def planned(requests: Sequence[Request]) -> list[Any]:
    """Return the messages of all requests, planned together, in execution order."""
    pilot = cp.ContextPilot()
    contexts, queries = zip(*((r.documents, r.query) for r in requests), strict=True)
    prompts, _ = pilot.optimize_batch(list(contexts), list(queries))
    return [list(messages) for messages in prompts]


def ask(server: Server, messages: Sequence[Any], **more: Any) -> Any:
    """Send one chat request that generates one token."""
    body = {"model": MODEL_NAME, "messages": list(messages), "max_tokens": 1, **more}
    return server.post("/v1/chat/completions", body, timeout=600.0)


def main() -> None:
    """Print one table line for each workload."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workload", type=Path, action="append", help="NAME.json.gz")
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--ram", type=int, default=0, help="MiB of the RAM prompt cache")
    parser.add_argument("--context", type=int, default=8192, help="tokens of each slot")
    arguments = parser.parse_args()
    print(machine_line())
    for path in arguments.workload or [None]:
        requests = read_requests(path)[: arguments.requests]
        flags = [*FLAGS, "--parallel", str(arguments.slots), "--cache-ram", str(arguments.ram)]
        flags += ["--ctx-size", str(arguments.slots * arguments.context)]
        plain, online, batch = compare(requests, flags)
        name = path.name.split(".")[0] if path else "demo"
        print(
            f"{name}, {len(requests)} requests, {arguments.slots} slots, {arguments.ram} MiB RAM "
            f"cache: {plain.computed:,} of {plain.prompt:,} prompt tokens computed as given"
        )
        for how, side in (("one at a time", online), ("together", batch)):
            print(
                f"  planned {how}: {side.computed:,} of {side.prompt:,}; "
                f"tokens {plain.computed / side.computed:.2f} x, "
                f"prefill time {plain.milliseconds / side.milliseconds:.2f} x",
                flush=True,
            )


if __name__ == "__main__":
    import plainly

    plainly.run(main)

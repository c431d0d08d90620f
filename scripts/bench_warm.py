"""Print what warming a cache brings on a real engine: a day's second half after its first.

    python scripts/bench_warm.py WORKLOADS [--engine vllm|llamacpp] [--only NAME ...]
        [--requests N] [--budget 50%] [--simulate]

WORKLOADS is a folder of workload files; figures alone are printed, none of their texts. The first
half of each is yesterday's log, the second half is what comes today, one request at a time. Three
passes through the engine, emptied before each: `cold` plans one at a time and knows nothing; `warm`
is the same after the prefixes worth computing were sent, one token each; `batch` plans all of today
together, which nobody can who does not know what will be asked. Hits are what the engine reports,
of whole prompts: system message, question and ranking are in them. `--simulate` needs no engine.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent / "engines"))

from environments import environment
from launch import MODEL_NAME, launch, tiny_model
from machine import machine_line
from tiny_model import ensure_model
from workloads import workload_files

from contextpilot.bench.drive import Sender
from contextpilot.bench.engine import EngineUnderTest
from contextpilot.bench.prompts import Prompt
from contextpilot.block import Block
from contextpilot.commands.capacity import resolve
from contextpilot.commands.workload import Workload, read_workload
from contextpilot.http.pooled import Upstream
from contextpilot.pilot import ContextPilot
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.simulate import simulate
from contextpilot.plan.warm import outlook, planned_paths
from contextpilot.prompt.messages import Messages
from contextpilot.warming import warm_prompts

SYSTEM = "Answer the question from the documents. Be brief."
CACHE_TOKENS = 1_600_000
READY_S = 1800.0
"""An engine takes that long to start where much else runs."""
FLAGS = {
    "vllm": (
        *("--max-model-len", "16384", "--block-size", "32"),
        *("--num-gpu-blocks-override", str(CACHE_TOKENS // 32)),
    ),
    "llamacpp": ("--parallel", "2", "--ctx-size", "32768", "--cache-ram", "4096"),
}
ENVIRONMENT = {"VLLM_SERVER_DEV_MODE": "1", "VLLM_CPU_KVCACHE_SPACE": "4"}


class Half(NamedTuple):
    """A half of a workload: questions, and the texts of their blocks."""

    queries: Sequence[str]
    contexts: Sequence[Sequence[str]]


class Counted(NamedTuple):
    """Tokens of prompts as the engine counts them."""

    prompt: int
    cached: int

    @property
    def percent(self) -> float:
        """Cached of all."""
        return 100 * self.cached / max(1, self.prompt)


class Passes:
    """Runs prompts through one engine."""

    def __init__(self, url: str, upstream: Upstream) -> None:
        self._engine = EngineUnderTest(url, upstream)
        self._sender = Sender(upstream, MODEL_NAME, 1)
        self._url = self._engine.url

    async def empty(self) -> None:
        """Empty the cache."""
        facts = await self._engine.facts(MODEL_NAME)
        if not await self._engine.reset(facts):
            raise SystemExit(f"the engine did not empty its cache: {facts.kind.reset_hint}")

    async def run(self, prompts: Iterable[Messages]) -> Counted:
        """Send prompts one after another; return what the engine counted."""
        prompt = cached = 0
        for messages in prompts:
            headers = {"X-Request-Id": messages.request_id}
            sent = await self._sender.send(self._url, Prompt(0, list(messages), headers=headers))
            if sent.error:
                raise SystemExit(f"the engine refused a prompt: {sent.error}")
            prompt += sent.prompt_tokens or 0
            cached += sent.cached_tokens or 0
        return Counted(prompt, cached)


def halves(workload: Workload) -> tuple[Half, Half]:
    """Return both halves of a workload."""
    texts = [[block.text for block in context] for context in workload.contexts]
    at = len(texts) // 2
    queries = workload.queries
    return Half(queries[:at], texts[:at]), Half(queries[at:], texts[at:])


def online(pilot: ContextPilot, half: Half) -> Iterable[Messages]:
    """Yield the prompts of a half, each planned when the one before was answered."""
    for query, context in zip(half.queries, half.contexts, strict=True):
        yield pilot.optimize(context, query, system_instruction=SYSTEM)


async def measured(url: str, workload: Workload, budget: int) -> list[str]:
    """Return a workload's row: what the engine reports of the three passes."""
    upstream = Upstream(10.0, 900.0)
    passes, (yesterday, today) = Passes(url, upstream), halves(workload)
    try:
        await passes.empty()
        cold = await passes.run(online(ContextPilot(index_url=""), today))
        await passes.empty()
        pilot = ContextPilot(index_url="")
        prefixes = warm_prompts(pilot, yesterday.contexts, budget, system_instruction=SYSTEM)
        spent = await passes.run(prefixes)
        warm = await passes.run(online(pilot, today))
        await passes.empty()
        planned, _ = ContextPilot(index_url="").optimize_batch(
            today.contexts, today.queries, system_instruction=SYSTEM
        )
        batch = await passes.run(planned)
    finally:
        upstream.close()
    computed = spent.prompt - spent.cached
    saved = (cold.prompt - cold.cached) - (warm.prompt - warm.cached)
    return [
        *(f"{one.percent:.1f}" for one in (cold, warm)),
        f"{warm.percent - cold.percent:+.1f}",
        f"{batch.percent:.1f}",
        f"{computed:,}",
        f"{saved:,}",
        f"{saved / max(1, computed):.1f}",
    ]


def simulated(contexts: Sequence[Sequence[Block]], budget: int) -> list[str]:
    """Return the same row of a simulated cache without bound, of block tokens alone."""
    found = outlook(contexts, 2 * budget)
    today = contexts[len(contexts) // 2 :]
    weights = {block.key: block.weight for context in today for block in context}
    batch = simulate(planned_paths(today, Bounds()), weights)
    cold, warm = 100 * found.cold.hit_ratio, 100 * found.warm.hit_ratio
    return [
        *(f"{cold:.1f}", f"{warm:.1f}", f"{warm - cold:+.1f}", f"{100 * batch.hit_ratio:.1f}"),
        *(f"{found.spent:,}", f"{found.saved:,}", f"{found.saved / max(1, found.spent):.1f}"),
    ]


def rows(paths: Sequence[Path], args: argparse.Namespace, url: str) -> None:
    """Print a row for each workload."""
    for path in paths:
        workload = read_workload(str(path)).first(args.requests)
        first = workload.contexts[: len(workload.contexts) // 2]
        tokens = sum(block.weight for context in first for block in context)
        budget = resolve(args.budget, tokens).tokens
        budget = tokens if budget is None else budget
        began = time.perf_counter()
        row = simulated(workload.contexts, budget)
        if url:
            row = asyncio.run(measured(url, workload, budget)) + row[:3]
        name = path.name.partition(".")[0]
        cells = [name, f"{len(workload.contexts) - len(first):,}", *row]
        print(f"| {' | '.join(cells)} | {time.perf_counter() - began:.0f} |", flush=True)


def main() -> None:
    """Print one table line for each workload."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("workloads", type=Path, help="folder of workload files")
    parser.add_argument("--engine", choices=("vllm", "llamacpp"), default="vllm")
    parser.add_argument("--only", nargs="*", default=(), metavar="NAME", help="these workloads")
    parser.add_argument("--requests", type=int, help="use the first N of each")
    parser.add_argument("--budget", default="50%", help="of the first half's tokens")
    parser.add_argument("--simulate", action="store_true", help="without an engine")
    args = parser.parse_args()
    paths = workload_files(args.workloads, args.only)
    print(machine_line(), end="\n\n")
    more = () if args.simulate else ("simulated cold", "warm", "gain")
    head = ["workload", "today", "cold %", "warm %", "gain", "batch %", "spent", "saved"]
    head += ["saved / spent", *more, "s"]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    if args.simulate:
        rows(paths, args, "")
        return
    target = environment(args.engine)
    model = tiny_model(target)
    if args.engine == "vllm":
        model = ensure_model(target.python, hidden=128, layers=2)
    flags = FLAGS[args.engine]
    with tempfile.TemporaryDirectory() as slots:  # without one it does not erase them
        if args.engine == "llamacpp":
            flags += ("--slot-save-path", slots)
        with launch(
            args.engine, env=ENVIRONMENT, extra_flags=flags, model=model, timeout=READY_S
        ) as server:
            rows(paths, args, server.base_url)


if __name__ == "__main__":
    import plainly

    plainly.run(main)

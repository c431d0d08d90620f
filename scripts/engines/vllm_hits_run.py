"""Send workloads to real vLLM engines in this process, planned in one of several ways.

    python vllm_hits_run.py '[{"model": FOLDER, "workload": FILE, "way": "knowing", ...}, ...]'

Runs in vLLM's environment; prints a line of JSON for each job. With "layers" (of
vllm_engine.LAYERS) the engine is vLLM's scheduler and cache without a model, in blocks of 16. The
library plans and listens here, as in an application's process; each request ends, and what the hook
tells of it arrives, before the next is planned.

| way     | planned | the planner takes for cached                                           |
|---------|---------|------------------------------------------------------------------------|
| plain   | no      |                                                                        |
| blindly | yes     | all that was sent                                                      |
| lengths | yes     | of each request what the hook says, at any length: full attention      |
| knowing | yes     | of each request what the hook says, at the lengths that can be reused  |
| batch   | as one  | nothing                                                                |
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

import versions  # noqa: E402
import vllm_engine  # noqa: E402
from vllm_files import serve  # noqa: E402
from vllm_hybrid_run import BLOCK, Engine, Telling, prepare, tell  # noqa: E402

from contextpilot import ContextPilot  # noqa: E402
from contextpilot.commands.capacity import resolve  # noqa: E402
from contextpilot.commands.workload import read_workload  # noqa: E402
from contextpilot.index import ContextIndex  # noqa: E402

WAYS = "plain", "blindly", "lengths", "knowing", "batch"
SYSTEM = "Answer the question from these memories, and say so if they do not tell."
NOBODY = "http://127.0.0.1:1"
KINDS = 5
"""An unlimited cache has room for all tokens in so many kinds of layers."""
VERSION = "0.32.0"
ROOM = 512
"""Tokens by which a planned prompt may be longer than one as given: it has an annotation."""
WINDOWS = 300
"""Blocks that the other layers of one prompt may take."""
describe = ContextIndex.describe


def takes_for_full(index: ContextIndex, granule: int, dropped: int = 0, _: bool = False) -> None:
    """Learn what an engine's cache is like, but not that it can be reused at few lengths."""
    describe(index, granule, dropped)


class Workload:
    """Questions and contexts, and how many tokens they are for a model."""

    def __init__(self, path: str, model: str, count: int | None) -> None:
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(model)
        read = read_workload(path).first(count)
        self.requests = [
            ([block.text for block in context], query)
            for context, query in zip(read.contexts, read.queries, strict=True)
        ]
        with ContextPilot(index_url="", reorder=False) as plain:
            sizes = [len(self.tokens(self.messages(plain, number))) for number in self.numbers]
        self.total, self.longest = sum(sizes), max(sizes)

    @property
    def numbers(self) -> range:
        return range(len(self.requests))

    def messages(self, pilot: ContextPilot, number: int) -> Any:
        contexts, query = self.requests[number]
        return pilot.optimize(contexts, query, system_instruction=SYSTEM)

    def together(self, pilot: ContextPilot) -> list[Any]:
        """Return the prompts of all requests, planned as one batch, in execution order."""
        contexts, queries = zip(*self.requests, strict=True)
        return list(pilot.optimize_batch(contexts, queries, system_instruction=SYSTEM)[0])

    def tokens(self, messages: Any) -> list[int]:
        found = self._tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, return_dict=False
        )
        return [int(token) for token in found]


def engine_options(workload: Workload, job: dict[str, Any]) -> dict[str, Any]:
    """The engine's options for a cache of the size that is asked for, or one prompt's."""
    longest = -(-(workload.longest + ROOM) // BLOCK)
    asked = resolve(job["capacity"], workload.total).tokens
    blocks = (KINDS * workload.total if asked is None else asked) // BLOCK
    return {
        "max_model_len": longest * BLOCK,
        "num_gpu_blocks_override": max(blocks, longest + WINDOWS),
        **job.get("options", {}),
    }


def start(job: dict[str, Any], workload: Workload) -> Callable[[str, list[int]], int]:
    """Start an engine; returns what sends it a prompt with our id, and returns what was cached."""
    options = engine_options(workload, job)
    if "layers" not in job:
        engine = Engine(job["model"], options)
        return lambda name, tokens: engine.run_one(engine.add(tokens, 1, name))
    blocks = options["num_gpu_blocks_override"] * BLOCK // vllm_engine.BLOCK
    bare = vllm_engine.VllmEngine(blocks, layers=job["layers"], retention=job["retention"])
    return lambda name, tokens: bare.run(f"chatcmpl-{name}-0badcafe", tokens)


def run(job: dict[str, Any]) -> dict[str, Any]:
    """One workload through one engine."""
    way, workload = job["way"], Workload(job["workload"], job["model"], job.get("count"))
    ContextIndex.describe = takes_for_full if way == "lengths" else describe  # type: ignore
    with ContextPilot(listen="127.0.0.1:0", reorder=way != "plain") as pilot:
        hears = way in ("lengths", "knowing")
        url = str(pilot.index_url) if hears else NOBODY
        os.environ["CONTEXTPILOT_INDEX_URL"] = url
        send = start(job, workload)
        telling = Telling(int(url.rpartition(":")[2])) if hears else None
        began, cached, computed = time.monotonic(), 0, 0
        prompts: Iterable[Any] = (workload.messages(pilot, one) for one in workload.numbers)
        if way == "batch":
            prompts = workload.together(pilot)
        for messages in prompts:
            tokens = workload.tokens(messages)
            found = send(messages.request_id, tokens)
            cached, computed = cached + found, computed + len(tokens) - found
            if telling is not None:
                telling.settle()
        return {
            "tokens": cached + computed,
            "cached": cached,
            "seconds": round(time.monotonic() - began, 1),
            "engines": pilot.engines(),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("jobs", help="a JSON list of objects")
    jobs = json.loads(parser.parse_args().jobs)
    if "layers" in jobs[0]:
        os.environ["CONTEXTPILOT_INDEX_URL"] = NOBODY
        serve(versions.folder("vllm", VERSION), VERSION)
        __import__("contextpilot_hooks.start", fromlist=["start"]).start()
    else:
        prepare(hooked=True)
    for job in jobs:
        tell({**job, **run(job)}, has_model="layers" not in job)
    os._exit(0)  # vLLM's own threads may hold up the exit


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))
    import plainly

    plainly.run(main)

"""What the hooks cost SGLang's scheduler thread; run by scripts/bench_sglang.py.

    python sglang_cost.py FILES VERSION PAGE_SIZE radix|python|rust[:SWA|MAMBA] URL [--processor]

Runs in SGLang's environment, on the version's real cache and tree without model and device; prints
one line of JSON. Times are our own share: that of the wrapped call less the original inside it.
With --processor they are the thread's own, without its waits for other processes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "hooks")]

import sglang_files  # noqa: E402
import sglang_parts_engine  # noqa: E402
import vllm_cost  # noqa: E402
from sglang_engine import Driver  # noqa: E402
from sglang_parts_engine import PartsDriver  # noqa: E402
from vllm_cost import Meter, microseconds  # noqa: E402

POOL = 60_000
REQUESTS = 600
WARM_UP = 100


class Costs:
    """Our own nanoseconds per step (one prefill or one finish) and per evicted page."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.per_page: list[int] = []
        self.evicted_pages = 0
        self._evicting = 0

    def step(self, nanoseconds: int) -> None:
        self.steps.append(nanoseconds)

    def evict(self, nanoseconds: int) -> None:
        self._evicting += nanoseconds

    def end_request(self, evicted_pages: int) -> None:
        if evicted_pages:
            self.per_page.append(self._evicting // evicted_pages)
        self.evicted_pages += evicted_pages
        self._evicting = 0


def load(driver: Driver, costs: Costs) -> None:
    """Prompts of 200 to 3,000 tokens, half of them with a shared prefix, all with our id."""
    chance = random.Random(3)
    shared = [[chance.randrange(30_000) for _ in range(1000)] for _ in range(8)]
    for number in range(REQUESTS):
        if number == WARM_UP:
            costs.__init__()  # type: ignore[misc]
        prefix = chance.choice(shared) if chance.random() < 0.5 else []
        own = [chance.randrange(30_000) for _ in range(chance.randint(200, 2000))]
        before = driver.evicted_tokens
        driver.run(f"cp-{number:024x}", prefix + own, own[:24])
        costs.end_request((driver.evicted_tokens - before) // driver.page_size)


class Nothing:
    """What is measured when there is nothing to measure."""

    def insert(self, *_: object) -> None:
        """Do nothing."""


def measuring() -> dict[str, float]:
    """What measuring a step costs that nothing of ours is in."""
    meter, values = Meter(), list[int]()
    meter.inner(Nothing, "insert")
    nothing: Any = Nothing()
    meter.outer(nothing, "insert", values.append)
    for _ in range(5000):
        nothing.insert(values)
    return microseconds(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("files", "version", "page_size", "core", "url"):
        parser.add_argument(name)
    parser.add_argument("--processor", action="store_true")
    files, version, page_size, core, url, processor = vars(parser.parse_args()).values()
    if processor:
        vllm_cost.clock = time.thread_time_ns
    os.environ["CONTEXTPILOT_INDEX_URL"] = url
    sglang_files.serve(Path(files), version)
    sglang_parts_engine.prepare()
    core, _, part = core.partition(":")
    if part:
        driver: Driver = PartsDriver(int(page_size), core, (part,), capacity=POOL)
    else:
        driver = Driver(int(page_size), "" if core == "radix" else core, POOL)
    meter, costs = Meter(), Costs()
    steps, evictions = ("insert",), ("evict", "_delete_leaf")
    if core != "radix":
        evictions = ("evict_for_alloc", "_evict_device_leaf")
    if part:
        evictions = (*evictions, "_evict_device_next_node")
    for name in (*steps, *evictions):
        meter.inner(type(driver.cache), name)
    driver.start_scheduler()
    for name in steps:
        meter.outer(driver.cache, name, costs.step)
    for name in evictions:
        meter.outer(driver.cache, name, costs.evict)
    load(driver, costs)
    result = {
        "step_us": microseconds(costs.steps),
        "measuring_us": measuring(),
        "evicted_pages": costs.evicted_pages,
        "evict_us": microseconds(costs.per_page),
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    import plainly

    plainly.run(main)

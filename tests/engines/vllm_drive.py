"""Drive one vLLM version under the hooks and print what was seen as one line of JSON.

    python vllm_drive.py ROOT VERSION [MODE]

MODE is exact (the default), eagle, blind-evict, blind-cache or blind-reset (one wrapper sees
nothing), hybrid, no-caching, reshaped, replica, crash or undo.

Runs in vLLM's environment, as a process of its own. The hooks are started the way the .pth does
it; the index is the tests' receiver on a real socket.
"""

from __future__ import annotations

import json
import logging
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE.parent / "hooks"), str(ROOT / "hooks"), str(ROOT / "scripts" / "engines")]

from receiver import Receiver, eventually  # noqa: E402
from vllm_files import serve  # noqa: E402

BLOCKS = 100
REQUESTS = 150


class Warnings(logging.Handler):
    """Collects what a user would see, and the tracebacks of swallowed errors."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []
        self.swallowed: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            self.texts.append(record.getMessage())
        if record.exc_info:
            self.swallowed.append(record.getMessage())


class Workload:
    """Prompts that share prefixes, some with an id of ours."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.prefixes = [self._fresh(self.random.randint(10, 300)) for _ in range(6)]
        self.prompts: dict[str, list[int]] = {}

    def _fresh(self, length: int) -> list[int]:
        return [self.random.randrange(30_000) for _ in range(length)]

    def prompt(self) -> list[int]:
        """A new prompt, or one that was sent before."""
        if self.prompts and self.random.random() < 0.3:
            return self.random.choice(list(self.prompts.values()))
        prefix = self.random.choice(self.prefixes) if self.random.random() < 0.6 else []
        return prefix + self._fresh(self.random.randint(1, 500))

    def name(self, tokens: list[int]) -> str:
        """An engine's id around ours, or one without ours."""
        if self.random.random() < 0.2:
            return f"chatcmpl-{self.random.getrandbits(64):016x}"
        ours = f"cp-{self.random.getrandbits(96):024x}"
        self.prompts[ours] = tokens
        return f"chatcmpl-{ours}-{self.random.getrandbits(32):08x}"


def drive(engine: Any, receiver: Receiver, patience: float, unused: int) -> dict[str, Any]:
    """Random bursts, resets and re-sent prompts, compared with the engine's own answers.

    unused: blocks of a hit that are computed anew.
    """
    work, result = Workload(5), {"checks": 0, "mismatches": 0, "hits": 0, "resets": 0}
    for number in range(REQUESTS):
        tokens = work.prompt()
        engine.add(work.name(tokens), tokens, work.random.randint(1, 20))
        if work.random.random() < 0.6:
            finish(engine)
        if number % 10 == 9:
            finish(engine)
            check(engine, receiver, work, result, patience, unused)
        if number % 60 == 59:
            result["resets"] += bool(engine.scheduler.reset_prefix_cache())
            check(engine, receiver, work, result, patience, unused)
    return result


def finish(engine: Any) -> None:
    while engine.scheduler.has_unfinished_requests():
        engine.step()


def check(
    engine: Any,
    receiver: Receiver,
    work: Workload,
    result: dict[str, Any],
    patience: float,
    unused: int,
) -> None:
    """The index against the engine, request by request."""
    truth = {name: engine.reusable(tokens) for name, tokens in work.prompts.items()}

    def told(name: str) -> int:
        # The engine computes at least the last token anew.
        most = (len(work.prompts[name]) - 1) // 16 - unused
        return min(receiver.tokens(name), max(0, most) * 16)

    eventually(lambda: all(told(name) == tokens for name, tokens in truth.items()), patience)
    result["checks"] += len(truth)
    result["mismatches"] += sum(told(name) != tokens for name, tokens in truth.items())
    result["hits"] += sum(tokens > 0 for tokens in truth.values())


def count_evictions() -> list[int]:
    """Count below our wrapper, independently of it."""
    from vllm.v1.core.block_pool import BlockPool

    counted, original = [0], BlockPool._maybe_evict_cached_block

    def counting(self: Any, block: Any) -> bool:
        evicted = original(self, block)
        counted[0] += bool(evicted)
        return evicted

    BlockPool._maybe_evict_cached_block = counting
    return counted


def hybrid(interface: Any) -> list[Any]:
    """Full attention beside a sliding window, as many current models have it."""
    import torch
    from vllm_engine import BLOCK, call

    shape = {"block_size": BLOCK, "num_kv_heads": 1, "head_size": 8, "dtype": torch.float32}
    full = call(interface.FullAttentionSpec, **shape, use_mla=False)
    window = call(interface.SlidingWindowSpec, **shape, use_mla=False, sliding_window=64)
    return [full, window]


def reshape() -> None:
    """An engine of a future version: the method that evicts takes something else."""
    from vllm.v1.core.block_pool import BlockPool

    original = BlockPool._maybe_evict_cached_block
    BlockPool._maybe_evict_cached_block = lambda self, entry: original(self, entry)


def run(mode: str, receiver: Receiver) -> dict[str, Any]:
    __import__("contextpilot_hooks.start", fromlist=["start"]).start()
    evicted = count_evictions()
    if mode == "reshaped":
        reshape()
    if mode.startswith("blind"):
        blind(mode.removeprefix("blind-"))
    from vllm_engine import VllmEngine

    options: dict[str, Any] = {
        "hybrid": {"specs": hybrid},
        "no-caching": {"caching": False},
        "eagle": {"eagle": True},
        "replica": {"data_parallel_size": 4, "data_parallel_rank": 2, "data_parallel_index": 2},
    }.get(mode, {})
    engine = VllmEngine(BLOCKS, **options)
    if mode == "crash":
        break_our_hook(engine)
    if mode == "undo":
        eventually(lambda: bool(receiver.messages))
        return undo(engine, receiver)
    if mode in ("exact", "eagle", "replica") or mode.startswith("blind"):
        eventually(lambda: bool(receiver.messages))
        result = drive(engine, receiver, 0.2 if mode.startswith("blind") else 10.0, mode == "eagle")
    else:
        result = {"outputs": [engine.run(f"r{n}", list(range(300 + n))) >= 0 for n in range(20)]}
        time.sleep(0.3)
    return {**result, "evicted": evicted[0], "engines": sorted(receiver.state)}


def blind(wrapper: str) -> None:
    """Let one of our observers see nothing, so that the comparison has to notice."""
    from contextpilot_hooks.vllm import Watch

    name = {"evict": "_around_evict", "cache": "_on_cache_full_blocks", "reset": "_on_reset"}
    blinded: Any = lambda _, original: original  # noqa: E731
    setattr(Watch, name[wrapper], blinded if wrapper == "evict" else lambda *_: None)


def undo(engine: Any, receiver: Receiver) -> dict[str, Any]:
    """Everything that was wrapped is unwrapped, and the engine goes on."""
    from contextpilot_hooks import importhook

    name = "cp-" + "0" * 24
    engine.run(name, list(range(300)))
    assert eventually(lambda: receiver.tokens(name) == 288)
    importhook.reset()
    owners = [engine.scheduler, engine.pool, type(engine.scheduler), type(engine.pool)]
    left = [
        str(value)
        for owner in owners
        for value in vars(owner).values()
        if "contextpilot" in getattr(getattr(value, "__code__", None), "co_name", "")
    ]
    outputs = [engine.run(f"r{n}", list(range(300 + n))) >= 0 for n in range(20)]
    (told,) = receiver.state.values()
    return {"left": left, "outputs": outputs, "told": told}


def break_our_hook(engine: Any) -> None:
    """Our own code fails at every eviction and every insert."""
    from contextpilot_hooks import ids, vllm

    def broken(text: object) -> None:
        raise ZeroDivisionError("ours")

    vllm.find_request_id = ids.find_request_id = broken  # type: ignore[assignment]
    assert "add_request" in vars(engine.scheduler)


def main() -> None:
    root, version, mode = Path(sys.argv[1]), sys.argv[2], [*sys.argv[3:], "exact"][0]
    warnings = Warnings()
    logger = logging.getLogger("contextpilot.hooks")
    logger.addHandler(warnings)
    logger.setLevel(logging.DEBUG)
    serve(root, version)
    with Receiver() as receiver:
        os.environ["CONTEXTPILOT_INDEX_URL"] = receiver.url
        result = run(mode, receiver)
        first = receiver.messages[0] if receiver.messages else {}
        result["reported"] = {name: first.get(name) for name in ("engine_version", "block_size")}
    sys.stdout.write(
        json.dumps({**result, "warnings": warnings.texts, "swallowed": warnings.swallowed})
    )


if __name__ == "__main__":
    main()

"""Drive one vLLM version under the hooks and print what was seen as one line of JSON.

    python vllm_drive.py ROOT VERSION [MODE ...]

MODE is exact (the default), eagle, blind-evict, blind-cache or blind-reset (one wrapper sees
nothing), no-caching, reshaped, replica, crash or undo. Behind a colon follow the model's layers, as
of vllm_engine.LAYERS, and vLLM's --prefix-cache-retention-interval, "exact:window:0".

Runs in vLLM's environment, as a process of its own; several modes each in a child of one process,
with a line each. The hooks are started the way the .pth does it; the index is the tests' receiver
on a real socket.
"""

from __future__ import annotations

import json
import logging
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE.parent / "hooks"), str(ROOT / "hooks"), str(ROOT / "scripts" / "engines")]

from forked import print_each  # noqa: E402
from receiver import Receiver, eventually  # noqa: E402
from vllm_files import serve  # noqa: E402

BLOCKS = 100
REQUESTS = 150
RESULTS = (
    *("checks", "mismatches", "above", "hits", "resets"),
    *("shared", "shared_hits", "shared_above", "shared_below"),
)


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
        self.prefixes = [self.fresh(self.random.randint(10, 300)) for _ in range(6)]
        self.prompts: dict[str, list[int]] = {}

    def fresh(self, length: int) -> list[int]:
        return [self.random.randrange(30_000) for _ in range(length)]

    def prompt(self) -> list[int]:
        """A new prompt, or one that was sent before."""
        if self.prompts and self.random.random() < 0.3:
            return self.random.choice(list(self.prompts.values()))
        prefix = self.random.choice(self.prefixes) if self.random.random() < 0.6 else []
        return prefix + self.fresh(self.random.randint(1, 500))

    def name(self, tokens: list[int]) -> str:
        """An engine's id around ours, or one without ours."""
        if self.random.random() < 0.2:
            return f"chatcmpl-{self.random.getrandbits(64):016x}"
        ours = f"cp-{self.random.getrandbits(96):024x}"
        self.prompts[ours] = tokens
        return f"chatcmpl-{ours}-{self.random.getrandbits(32):08x}"


def drive(engine: Any, receiver: Receiver, patience: float) -> dict[str, Any]:
    """Random bursts, resets and re-sent prompts, compared with the engine's own answers."""
    work, result = Workload(5), dict.fromkeys(RESULTS, 0)
    for number in range(REQUESTS):
        tokens = work.prompt()
        engine.add(work.name(tokens), tokens, work.random.randint(1, 20))
        if work.random.random() < 0.6:
            finish(engine)
        if number % 10 == 9:
            finish(engine)
            check(engine, receiver, work, result, patience)
        if number % 60 == 59:
            result["resets"] += bool(engine.scheduler.reset_prefix_cache())
            check(engine, receiver, work, result, patience)
    return result


def finish(engine: Any) -> None:
    while engine.scheduler.has_unfinished_requests():
        engine.step()


def check(
    engine: Any, receiver: Receiver, work: Workload, result: dict[str, Any], patience: float
) -> None:
    """The index against the engine: each prompt again, and others that share a part of it."""
    truth = {name: engine.reusable(tokens) for name, tokens in work.prompts.items()}
    head = receiver.messages[-1]
    sizes = head.get("dropped", 0), head["block_size"]

    def told(name: str, shared: int) -> int:
        return receiver.reusable(name, shared, *sizes)

    def resent(name: str) -> int:  # the engine computes at least the last token anew
        return told(name, len(work.prompts[name]) - 1)

    eventually(lambda: all(resent(name) == tokens for name, tokens in truth.items()), patience)
    result["checks"] += len(truth)
    result["mismatches"] += sum(resent(name) != tokens for name, tokens in truth.items())
    result["above"] += sum(resent(name) > tokens for name, tokens in truth.items())
    result["hits"] += sum(tokens > 0 for tokens in truth.values())
    for _ in range(20):
        tokens = work.prompts[work.random.choice(list(work.prompts))]
        tokens = [*tokens[: work.random.randint(0, len(tokens))], *work.fresh(40)]
        best = max(told(name, common(tokens, other)) for name, other in work.prompts.items())
        found = engine.reusable(tokens)
        result["shared"] += 1
        result["shared_hits"] += found > 0
        result["shared_above"] += best > found
        # Nobody told of those without our id.
        result["shared_below"] += best < found


def common(first: list[int], second: list[int]) -> int:
    """How many tokens two prompts share from their start."""
    pairs = zip(first, second, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


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


def reshape() -> None:
    """An engine of a future version: the method that evicts takes something else."""
    from vllm.v1.core.block_pool import BlockPool

    original = BlockPool._maybe_evict_cached_block
    BlockPool._maybe_evict_cached_block = lambda self, entry: original(self, entry)


def run(mode: str, layers: dict[str, Any], receiver: Receiver) -> dict[str, Any]:
    __import__("contextpilot_hooks.start", fromlist=["start"]).start()
    evicted = count_evictions()
    if mode == "reshaped":
        reshape()
    if mode.startswith("blind"):
        blind(mode.removeprefix("blind-"))
    from vllm_engine import VllmEngine

    options: dict[str, Any] = {
        "no-caching": {"caching": False},
        "eagle": {"eagle": True},
        "replica": {"data_parallel_size": 4, "data_parallel_rank": 2, "data_parallel_index": 2},
    }.get(mode, {})
    blocks = 250 if layers.get("layers") == "all" else BLOCKS  # or a long prompt never fits
    engine = VllmEngine(blocks, **options, **layers)
    if mode == "crash":
        break_our_hook(engine)
    if mode == "undo":
        eventually(lambda: bool(receiver.messages))
        return undo(engine, receiver)
    if mode in ("exact", "eagle", "replica") or mode.startswith("blind"):
        if not eventually(lambda: bool(receiver.messages), 20.0):
            return {"engines": []}
        result = drive(engine, receiver, 0.2 if mode.startswith("blind") else 10.0)
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


def seen(mode: str) -> dict[str, Any]:
    """What one mode comes to."""
    mode, *more = mode.split(":")
    layers = dict(zip(("layers", "retention"), [*more[:1], *map(int, more[1:])], strict=False))
    warnings = Warnings()
    logger = logging.getLogger("contextpilot.hooks")
    logger.addHandler(warnings)
    logger.setLevel(logging.DEBUG)
    with Receiver() as receiver:
        os.environ["CONTEXTPILOT_INDEX_URL"] = receiver.url
        result = run(mode, layers, receiver)
        last = receiver.messages[-1] if receiver.messages else {}
        result["reported"] = {name: last.get(name) for name in ("engine_version", "block_size")}
    return {**result, "warnings": warnings.texts, "swallowed": warnings.swallowed}


def main(seen: Callable[[str], dict[str, Any]], *usual: str) -> None:
    """Print what is seen of each mode that the command line names, each in a child of its own."""
    root, version, *modes = sys.argv[1:]
    serve(Path(root), version)
    if len(modes) > 1:
        __import__("vllm.v1.core.sched.scheduler")
        print_each(modes, seen)
    else:
        sys.stdout.write(json.dumps(seen([*modes, *usual][0])))


if __name__ == "__main__":
    main(seen, "exact")

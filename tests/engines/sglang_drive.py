"""Drive the real prefix cache of one SGLang version with the hook attached; prints JSON.

    python sglang_drive.py FILES VERSION PAGE_SIZE[,PAGE_SIZE] radix|python|rust MODE[:KIND] ...

KIND: what the tree's nodes have besides ("SWA", "MAMBA", "SWA+MAMBA"), and "EAGLE", joined by +.

Runs in a process of its own, with the Python of SGLang's environment. The cache, its tree and the
Scheduler class are the version's own; model, device pools and sockets are not there. Every request
goes the way the scheduler takes it: queue, match, evict for want of room, insert of the prompt,
insert of prompt and output. The truth is what the cache itself matches for every prompt, and for a
part of it that another prompt may share.
"""

from __future__ import annotations

import json
import logging
import os
import random
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "hooks"), str(ROOT / "hooks"), str(ROOT / "scripts/engines")]

import sglang_files  # noqa: E402
import sglang_parts_engine  # noqa: E402
from forked import print_each  # noqa: E402
from receiver import Receiver, eventually  # noqa: E402
from sglang_engine import Driver  # noqa: E402
from sglang_parts_engine import PartsDriver  # noqa: E402

REQUESTS = 60
CHECK_EVERY = 6


def compare(driver: Driver, receiver: Receiver) -> dict[str, Any]:
    """Random requests over shared prefixes; returns what was checked and what was wrong."""
    chance = random.Random(driver.page_size)
    bases = [[chance.randrange(900) for _ in range(chance.choice((20, 60, 90)))] for _ in range(5)]
    prompts: dict[str, list[int]] = {}
    counts = {"checked": 0, "partial": 0, "gone": 0}
    wrong: list[Any] = []
    for number in range(REQUESTS):
        if wrong:
            break
        base = chance.choice(bases)
        tail = [chance.randrange(900) for _ in range(chance.choice((3, 40, 100)))]
        prompt = base[: chance.choice((len(base), len(base) // 2))] + tail
        if prompts and chance.random() < 0.2:
            prompt = chance.choice(list(prompts.values()))
        name = f"cp-{number:024x}" if chance.random() < 0.9 else f"not-ours-{number}"
        if name.startswith("cp-"):
            prompts[name] = prompt
        driver.run(name, prompt, [chance.randrange(900) for _ in range(chance.choice((0, 5, 20)))])
        if number % CHECK_EVERY == 0:
            check(driver, receiver, prompts, counts, wrong)
    check(driver, receiver, prompts, counts, wrong)
    driver.cache.reset()
    cleared = eventually(lambda: not any(receiver.state.values()), 10)
    driver.run(f"cp-{REQUESTS:024x}", prompts[max(prompts)], [])
    prompts[f"cp-{REQUESTS:024x}"] = prompts[max(prompts)]
    check(driver, receiver, prompts, counts, wrong)
    return {**counts, "wrong": wrong, "cleared": cleared}


def check(
    driver: Driver,
    receiver: Receiver,
    prompts: dict[str, list[int]],
    counts: dict[str, int],
    wrong: list[Any],
) -> None:
    """Compare what the index knows of each prompt and of a part of it with what is matched."""
    chance = random.Random(len(prompts))
    shared = [
        (name, shared)
        for name, prompt in prompts.items()
        for shared in (len(prompt), chance.randint(1, len(prompt)))
    ]
    truth = {(name, shared): driver.match(prompts[name][:shared]) for name, shared in shared}

    def differences() -> list[Any]:
        sizes = known_sizes(receiver)
        told = {(name, shared): receiver.reusable(name, shared, *sizes) for name, shared in truth}
        # Of pairs that are told in whole pages, a page less may be known.
        slack = sizes[0] if sizes[0] > 1 else 0
        return [
            [name, shared, told[name, shared], matched]
            for (name, shared), matched in truth.items()
            if not matched - slack <= told[name, shared] <= matched
        ]

    if not eventually(lambda: not differences(), 10):
        wrong.extend(differences())
    counts["checked"] += len(truth)
    counts["gone"] += sum(tokens == 0 for tokens in truth.values())
    counts["partial"] += sum(
        0 < tokens < shared // driver.page_size * driver.page_size
        for (_, shared), tokens in truth.items()
    )


def known_sizes(receiver: Receiver) -> tuple[int, int]:
    """What the engine said is dropped at the end of what is shared, and its block size."""
    last = receiver.messages[-1] if receiver.messages else {}
    return last.get("dropped", 0), last.get("block_size", 1)


def distort(driver: Driver, mode: str) -> dict[str, Any]:
    """Prepare what `mode` is about; returns the ranks of the scheduler."""
    cache = driver.cache
    if mode == "off":
        cache.disable = True
    elif mode == "host-tier":
        cache.cache_controller = object()
    elif mode == "unknown-cache":
        cache.__class__ = type("OtherCache", (type(cache),), {})
    elif mode == "reshaped":
        type(cache).insert = lambda self, *given: None
    elif mode == "unknown-version":
        sys.modules["sglang"].__version__ = "0.5.999"
    return {"second-rank": {"attn_tp_rank": 1}, "replica": {"dp_rank": 1}}.get(mode, {})


def blind(mode: str) -> None:
    """Make one wrapper see nothing: the comparison has to notice."""
    from contextpilot_hooks.sglang import Watch
    from contextpilot_hooks.sglang_parts import PartWatch

    wrapper = {"blind-insert": "_inserted", "blind-evict": "_evicted", "blind-reset": "_reset"}
    if mode in wrapper:
        setattr(Watch, wrapper[mode], lambda self, *_: None)
    if mode == "blind-emptied":
        PartWatch.emptied = lambda self, *_: None  # type: ignore[method-assign]


def drive(driver: Driver, mode: str) -> dict[str, Any]:
    """One cache from start to end; `mode` is "exact" or a fault (see distort and blind)."""
    from contextpilot_hooks import importhook

    with Receiver() as receiver:
        os.environ["CONTEXTPILOT_INDEX_URL"] = receiver.url
        blind(mode)
        driver.start_scheduler(**distort(driver, mode))
        if mode in ("unknown-cache", "reshaped", "off", "host-tier", "unknown-version", "refused"):
            result: dict[str, Any] = {"refused": "insert" not in vars(driver.cache)}
        else:
            result = compare(driver, receiver)
        result["engines"] = sorted(receiver.state)
        importhook.reset()
        return result


def make(page_size: int, core: str, kind: str) -> Driver:
    """The cache of one kind (see the module)."""
    names = kind.split("+") if kind else []
    parts = tuple(name for name in names if name != "EAGLE")
    if parts:
        return PartsDriver(page_size, core, parts, eagle="EAGLE" in names)
    return Driver(page_size, "" if core == "radix" else core, eagle="EAGLE" in names)


def main() -> int:
    """All page sizes of one version and tree core."""
    files, version, sizes, core, *modes = sys.argv[1:]
    sglang_files.serve(Path(files), version)
    sglang_parts_engine.prepare()
    if len(modes) > 1:
        print_each(modes, lambda mode: seen(sizes, core, mode))
    else:
        sys.stdout.write(json.dumps(seen(sizes, core, modes[0])) + "\n")
    return 0


def seen(sizes: str, core: str, mode: str) -> dict[str, Any]:
    """What one mode comes to, with pages of each size."""
    messages: list[str] = []
    handler = logging.Handler(logging.DEBUG)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or bool(record.exc_info))
    logger = logging.getLogger("contextpilot.hooks")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    mode, _, kind = mode.partition(":")
    runs = [drive(make(int(size), core, kind), mode) for size in sizes.split(",")]
    return {"runs": runs, "messages": messages}


if __name__ == "__main__":
    sys.exit(main())

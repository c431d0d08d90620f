"""Drive one vLLM version for its KV events alone; prints JSON for each kind of layers.

    python kv_events_drive.py ROOT VERSION LAYERS ...

LAYERS: as of vllm_engine.LAYERS. Runs in vLLM's environment, as a process of its own. What the
version's real scheduler publishes is followed as by the server; what would be told of each prompt,
and of parts of it, is compared with what the engine itself would reuse.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE.parent / "hooks"), str(ROOT / "hooks"), str(ROOT / "scripts" / "engines")]
sys.path.insert(0, str(ROOT))

import msgspec  # noqa: E402
from vllm_drive import Workload, common, finish, main  # noqa: E402
from vllm_engine import BLOCK, VllmEngine  # noqa: E402

from contextpilot.named import point_below  # noqa: E402
from contextpilot.sync.sources.kv_events.chains import Chains  # noqa: E402
from contextpilot.sync.sources.kv_events.wire import (  # noqa: E402
    MalformedError,
    Removed,
    Stored,
    decode,
    pack,
)

BLOCKS = 100
REQUESTS = 100


class Followed:
    """Stands where vLLM publishes, and follows what it publishes."""

    def __init__(self) -> None:
        self.chains = Chains()
        self.told: dict[str, Any] = {}

    def publish(self, batch: Any) -> None:
        """Take a step's events."""
        try:
            changes = decode(msgspec.msgpack.encode(batch))
        except MalformedError:
            self.chains.clear(0)
            return
        for change in changes:
            if isinstance(change, Stored):
                self.chains.store(0, change)
            elif isinstance(change, Removed):
                self.chains.remove(0, change)

    def settle(self, prompts: dict[str, list[int]]) -> None:
        """Follow these prompts, and take what is told of them."""
        for name, tokens in prompts.items():
            if self.chains.block_size and name not in self.chains.requests():
                self.chains.follow(name, pack(tokens))
        self.told.update((event.request, event) for event in self.chains.changes())

    def reusable(self, name: str, shared: int) -> int:
        """What is believed that a prompt reuses which shares so many tokens."""
        event = self.told.get(name)
        if event is None or self.chains.layers.refused:
            return 0
        if event.points is not None:
            return point_below(event.points, shared // BLOCK * BLOCK)
        return min(event.tokens, shared) // BLOCK * BLOCK


def seen(layers: str) -> dict[str, Any]:
    """What one kind of layers comes to."""
    engine, followed = VllmEngine(BLOCKS, layers=layers), Followed()
    engine.pool.enable_kv_cache_events = True
    engine.scheduler.kv_event_publisher = followed
    work = Workload(5)
    counts = dict.fromkeys(("checks", "above", "below", "hits"), 0)
    for number in range(REQUESTS):
        tokens = work.prompt()
        engine.add(work.name(tokens), tokens, work.random.randint(1, 20))
        if work.random.random() < 0.6 or number % 10 == 9:
            finish(engine)
        if number % 10 == 9:
            check(engine, followed, work, counts)
    return {"layers": layers, **counts, "refused": followed.chains.layers.refused}


def check(engine: VllmEngine, followed: Followed, work: Workload, counts: dict[str, int]) -> None:
    """Each prompt again, and parts of them, against the engine's own answer."""
    followed.settle(work.prompts)
    asked = [(tokens, len(tokens) - 1) for tokens in work.prompts.values()]
    for _ in range(20):
        tokens = work.prompts[work.random.choice(list(work.prompts))]
        part = work.random.randint(0, len(tokens))
        asked.append(([*tokens[:part], *work.fresh(40)], part))
    for tokens, end in asked:
        shared = {name: min(common(tokens, other), end) for name, other in work.prompts.items()}
        told = max(followed.reusable(*one) for one in shared.items())
        found = engine.reusable(tokens)
        counts["checks"] += 1
        counts["hits"] += found > 0
        counts["above"] += told > found
        counts["below"] += told < found


if __name__ == "__main__":
    main(seen)

"""Two data-parallel ranks of a real vLLM behind two API servers: is what each tells so?"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from typing import Any

import launch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "hooks"))

from receiver import Receiver

RANKS = 2
BLOCK = 32
FLAGS = ("--data-parallel-size", str(RANKS), "--api-server-count", "2")
SMALL = ("--max-model-len", "2048", "--num-gpu-blocks-override", "120")
_SETTLE_S = 0.5


class Replicas:
    """A server of several ranks, and what each rank told an index."""

    def __init__(self, server: launch.Server, index: Receiver) -> None:
        self._server, self._index = server, index
        self._random = random.Random(5)
        self._prefixes = [self.fresh(900) for _ in range(4)]

    def fresh(self, count: int) -> list[int]:
        """Random tokens."""
        return [self._random.randrange(5, 7000) for _ in range(count)]

    def draw(self) -> list[int]:
        """A prompt that begins as others do."""
        head = self._random.choice(self._prefixes)[: self._random.randint(100, 900)]
        return [*head, *self.fresh(self._random.randint(1, 300))]

    def send(self, prompt: list[int], rank: int) -> tuple[str, int]:
        """Send a prompt to a rank; return its id and what was cached of it."""
        name = f"cp-{self._random.getrandbits(96):024x}"
        body = {"model": launch.MODEL_NAME, "prompt": prompt, "max_tokens": 2, "temperature": 0}
        headers = {"X_Request_Id": name, "X_data_parallel_rank": str(rank)}
        reply: Any = self._server.post("/v1/completions", body, **headers)
        details = reply["usage"].get("prompt_tokens_details") or {}
        return name, details.get("cached_tokens") or 0

    def told(self, name: str, rank: int, prompt_tokens: int) -> int:
        """The most that a rank told of a request that can hit."""
        time.sleep(_SETTLE_S)
        # dense replicas are told that they are alone: the first has no rank in its name
        found = [s for e, s in self._index.state.items() if int(e.partition("-dp")[2] or 0) == rank]
        cached = max((state.get(name, 0) for state in found), default=0)
        return min(cached, prompt_tokens - 1) // BLOCK * BLOCK


def run(checks: int) -> dict[str, Any]:
    """Send prompts to both ranks, and again; count what was told."""
    rows = []
    with (
        Receiver() as index,
        launch.launch(
            "vllm", extra_flags=[*FLAGS, *SMALL], env={"CONTEXTPILOT_INDEX_URL": index.url}
        ) as server,
    ):
        replicas, sent = Replicas(server, index), list[tuple[str, int, list[int]]]()
        chance = random.Random(6)
        while len(rows) < checks:
            rank = chance.randrange(RANKS)
            prompt = replicas.draw()
            sent.append((replicas.send(prompt, rank)[0], rank, prompt))
            name, rank, prompt = chance.choice(sent[-12:])
            told = replicas.told(name, rank, len(prompt))
            name, cached = replicas.send(prompt, rank)
            sent.append((name, rank, prompt))
            rows.append((told, cached))
        engines = sorted(index.state)
    found = {
        "checks": len(rows),
        "hits": sum(cached > 0 for _, cached in rows),
        "above": sum(told > cached for told, cached in rows),
        "below": sum(told < cached for told, cached in rows),
    }
    return {"again": found, "shared": dict.fromkeys(found, 0), "engines": len(engines)}

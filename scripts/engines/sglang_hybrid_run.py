"""Compare what the hook of a real SGLang server tells with what that server reuses.

`run(job)` starts a server of tiny random weights with a small cache. Random bursts of prompts share
prefixes; before each check the prediction is made from what was told alone, then the prompt is sent
and the server's `cached_tokens` is read: the same again, and one that shares a part.
"""

from __future__ import annotations

import hashlib
import random
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "tests" / "hooks"), str(HERE.parents[1] / "hooks")]

from environments import environment  # noqa: E402
from families import ensure_family  # noqa: E402
from launch import Server, free_port, launch  # noqa: E402
from receiver import Receiver  # noqa: E402
from vllm_hybrid_run import Predictions, compare  # noqa: E402

SMALL = (
    *("--max-total-tokens", "6400", "--context-length", "2048", "--max-running-requests", "8"),
    *("--chunked-prefill-size", "512", "--max-prefill-tokens", "2048", "--random-seed", "0"),
)
STATES = (
    *("--mamba-radix-cache-strategy", "no_buffer", "--disable-overlap-schedule"),
    *("--max-mamba-cache-size", "48"),
)
ON_CPU = {"PYTHONPATH": str(HERE / "shims" / "sglang_on_cpu")}
WINDOWS = ("full attention", "sliding window")
JOBS: dict[str, dict[str, Any]] = {
    "mellum": {"layers": WINDOWS},
    "lfm2": {"layers": ("full attention", "states"), "flags": STATES},
    "mellum, Python tree, pages of 16": {
        "family": "mellum",
        "layers": WINDOWS,
        "flags": ("--page-size", "16"),
        "environ": {"SGLANG_UNIFIED_RADIX_TREE_CORE_BACKEND": "python"},
    },
    "gemma3": {"layers": WINDOWS[:1]},
    "llama4": {"layers": WINDOWS},
}
"""By name: the model's family, what its layers are, flags and environment of the server."""


class Engine:
    """A running SGLang server; prompts are lists of tokens. All that was added is sent at once."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._random = random.Random(7)
        self._waiting: dict[str, tuple[list[int], int]] = {}
        self.outputs = hashlib.sha256()
        self.different: set[str] = set()

    def add(self, tokens: list[int], outputs: int, name: str = "", **_: object) -> str:
        """Queue a prompt; returns its name, one of ours if none is given."""
        name = name or f"cp-{self._random.getrandbits(96):024x}"
        self._waiting[name] = tokens, outputs
        return name

    def run(self) -> dict[str, int]:
        """Send what was added; returns the cached tokens of each request."""
        waiting, self._waiting = self._waiting, {}
        if not waiting:
            return {}
        fixed = {"temperature": 0, "ignore_eos": True}
        body = {
            "rid": list(waiting),
            "input_ids": [tokens for tokens, _ in waiting.values()],
            "sampling_params": [
                {**fixed, "max_new_tokens": count} for _, count in waiting.values()
            ],
        }
        answers: Any = self._server.post("/generate", body)
        cached = {}
        for answer in sorted(answers, key=lambda answer: str(answer["meta_info"]["id"])):
            name, text = answer["meta_info"]["id"], repr(answer["output_ids"])
            cached[name] = answer["meta_info"]["cached_tokens"]
            self.outputs.update(f"{name} {text}".encode())
            self.different.add(text)
        return cached

    def run_one(self, name: str) -> int:
        """Send what was added; returns the cached tokens of this request."""
        return self.run()[name]


class Index(Predictions):
    """What the hook told; predictions are made from it alone."""

    def __init__(self, receiver: Receiver, engine: Engine, hooked: bool) -> None:
        super().__init__(receiver)
        self._engine = engine
        self._hooked = hooked
        self._random = random.Random(8)

    def settle(self) -> None:
        """Wait until all that happened was told: a marker's event comes after it."""
        marker = self._engine.add([self._random.randrange(5, 7000) for _ in range(20)], 1)
        self._engine.run()
        if self._hooked:
            self._receiver.wait(lambda: self._receiver.tokens(marker) > 0)

    def predict(self, tokens: list[int], known: dict[str, list[int]]) -> int:
        return super().predict(tokens, known) if self._hooked else 0


def job(name: str, checks: int = 0, **more: Any) -> dict[str, Any]:
    """What `run` does for one of JOBS."""
    return {"name": name, "family": name, "flags": (), **JOBS[name], "checks": checks, **more}


def run(job: dict[str, Any]) -> dict[str, Any]:
    """One job on a server of its own."""
    started = time.monotonic()
    hooked, port = job.get("hooked", True), free_port()
    environ = {"CONTEXTPILOT_INDEX_URL": f"http://127.0.0.1:{port}"} if hooked else {}
    model = ensure_family(environment("sglang").python, job["family"])
    with (
        Receiver(port) as receiver,
        launch(
            "sglang",
            model=model,
            env={**ON_CPU, **environ, **job.get("environ", {})},
            extra_flags=(*SMALL, *job["flags"]),
            timeout=800.0,  # a busy machine takes its time
        ) as server,
    ):
        ready = time.monotonic()
        engine = Engine(server)
        seen = compare(engine, Index(receiver, engine, hooked), job["checks"])
        return {
            **job,
            **seen,
            "outputs": engine.outputs.hexdigest(),
            "distinct": len(engine.different),
            "told": receiver.messages[-1] if receiver.messages else None,
            "seconds": [round(ready - started, 1), round(time.monotonic() - ready, 1)],
        }

"""The same calls give the same bytes in every process, whatever PYTHONHASHSEED is."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import contextpilot as cp

_PROGRAM = "from test_determinism import fingerprint; print(fingerprint())"


def play() -> list[Any]:
    """A day of an instance: online, windows, batches, conversations, evictions."""
    draw = random.Random(11)
    words = [f"Document {n}: " + f"sentence {n} " * (n % 7 + 10) for n in range(60)]
    pilot = cp.ContextPilot()
    seen: list[Any] = []

    def context(kind: int) -> list[Any]:
        numbers = draw.choices(range(60), weights=[1 / (n + 1) for n in range(60)], k=8)
        if kind == 0:
            return [words[n] for n in numbers]
        return numbers if kind == 1 else [{"text": words[n], "id": n} for n in numbers]

    for step in range(60):
        options = {"namespace": f"tenant {step % 2}", "pin_first": step % 3}
        messages = pilot.optimize(context(step % 3), f"q{step}", **options)
        seen += [list(messages), messages.order, messages.hinted]
        explained = pilot.explain(messages, namespace=options["namespace"]).as_dict()
        seen.append({**explained, "request_id": None})
    for size in (16, 16, 200):
        batch = [context(0) for _ in range(size)]
        prompts, order = pilot.optimize_batch(batch, ["q"] * size, namespace="tenant 0")
        seen += [order, [list(prompt) for prompt in prompts], [prompt.order for prompt in prompts]]
    seen.append(pilot.stats())
    return seen


def fingerprint() -> str:
    import hashlib

    return hashlib.sha256(repr(play()).encode()).hexdigest()


@pytest.mark.slow
def test_equal_in_every_process_and_under_every_hash_seed() -> None:
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(Path(cp.__file__).parents[1])])
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("0", "1", "4242")
    ]
    found = {run.communicate()[0].strip() for run in runs}
    assert found == {fingerprint()}

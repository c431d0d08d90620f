"""Fixtures: command lines in this process, and a workload whose requests share blocks."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "commands"))

from runner import Runner


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Runner:
    """`run("bench", ...)`: run a command line in this process."""
    return Runner(capsys)


def requests_of(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Return requests whose blocks are drawn from a small pool."""
    chance = random.Random(seed)
    pool = [
        f"Passage {number}: " + " ".join(f"w{number}x{i}" for i in range(chance.randint(4, 14)))
        for number in range(30)
    ]
    return [
        {
            "query": f"question {i}?",
            "contexts": chance.sample(pool, 8),
            "answers": [f"answer {i}"],
        }
        for i in range(count)
    ]


@pytest.fixture
def workload(tmp_path: Path) -> Path:
    """A file of 20 requests."""
    path = tmp_path / "shared.jsonl"
    path.write_text("".join(json.dumps(request) + "\n" for request in requests_of(20)))
    return path

"""The pool before many simulated engines, against routers that know less: more hits, no later."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "bench_pool.py"


@pytest.fixture(scope="module")
def workloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tenants who ask of topics: each request has some of a topic's documents, in any order."""
    folder, chance = tmp_path_factory.mktemp("workloads"), random.Random(1)
    for tenant in "ab":
        docs = [f"{tenant} {number} " + "word " * 300 for number in range(75)]
        topics = [range(start, start + 25) for start in range(0, 75, 25)]
        found = [chance.sample(chance.choice(topics), 12) for _ in range(240)]
        asked = [{"query": "?", "contexts": context} for context in found]
        content = json.dumps({"docs": docs, "requests": asked}).encode()
        (folder / f"{tenant}.json.gz").write_bytes(gzip.compress(content))
    return folder


@pytest.mark.parametrize("more", [[], ["--steady"]], ids=["members-change", "steady"])
def test_the_pool_finds_more_than_a_hash_and_answers_no_later(workloads: Path, more) -> None:
    line = [sys.executable, SCRIPT, workloads, "--engines", "8", *more]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()]
    figures = {row[0]: [float(cell) for cell in row[1:]] for row in rows if row[-1][:1].isdigit()}
    hits, balance, _, _, p99, _ = figures["pool"]
    assert hits >= figures["prefix hash"][0] + 10, done.stdout
    assert p99 <= figures["prefix hash"][4], done.stdout
    assert balance <= 1.5, done.stdout

"""`contextpilot bench` on real engines: they report what planning saves, as the simulation says."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "commands"))

from launch import launch
from runner import Runner

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

POINTS = 0.02
DEV_MODE = {"VLLM_SERVER_DEV_MODE": "1"}
ENGINES = [
    "llamacpp",
    pytest.param("vllm", marks=pytest.mark.slow),
    pytest.param("sglang", marks=pytest.mark.slow),
]


@pytest.fixture
def workload(tmp_path: Path) -> Path:
    """A file of 12 requests for 6 of 16 passages."""
    chance = random.Random(2)
    words = [
        "heron",
        "otter",
        "beetle",
        "willow",
        "carp",
        "newt",
        "owl",
        "moss",
        "fern",
        "reed",
        "pike",
        "stoat",
    ]
    pool = [f"{i} is {' '.join(chance.choices(words, k=40))}." for i in range(16)]
    path = tmp_path / "passages.jsonl"
    lines = [
        json.dumps({"query": f"Which is number {i}?", "contexts": chance.sample(pool, 6)})
        for i in range(12)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("name", ENGINES)
def test_a_real_engine_hits_as_simulated(
    name: str,
    workload: Path,
    tmp_path: Path,
    engine: Callable[[str], Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    engine(name)
    flags = ["--cache-ram", "0"] if name == "llamacpp" else []
    with launch(name, env=DEV_MODE, extra_flags=flags, hooks=False) as server:
        shown = Runner(capsys)("bench", "--engine", server.base_url, "--workload", workload,
                               "--modes", "plain,online,batch,proxy", "--repetitions", 1,
                               "--displacement-cost", 0, "--out", tmp_path)  # fmt: skip
    assert shown.status == 0, shown.err
    report = json.loads((tmp_path / "bench.json").read_text())
    modes = {mode["mode"]: mode for mode in report["modes"]}
    assert report["engine"]["kind"] == name
    assert report["failed_requests"] == 0
    assert modes["batch"]["hit_ratio"] > modes["plain"]["hit_ratio"] + 0.1
    for mode in modes.values():
        assert mode["requests"] == 12
        assert mode["hit_ratio"] == pytest.approx(mode["expected_hit_ratio"], abs=POINTS)
    if name != "llamacpp":  # it takes turns in slots, which the planner does not know of
        assert modes["online"]["hit_ratio"] > modes["plain"]["hit_ratio"]
        # not equal: their salts take more or fewer tokens
        proxy, online = (modes[mode]["hit_ratio"] for mode in ("proxy", "online"))
        assert proxy == pytest.approx(online, abs=POINTS / 2)

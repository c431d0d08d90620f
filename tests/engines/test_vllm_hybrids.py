"""Real vLLM engines with tiny models of hybrid families: what is told is what is cached."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import bench_hybrids

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


def test_what_is_told_is_what_is_cached(engine):
    engine("vllm")
    jobs = [bench_hybrids.job(family, checks=20, events=True) for family in ("gemma3", "qwen3next")]
    for seen in bench_hybrids.results(jobs):
        for kind in ("again", "shared", "again by events", "shared by events"):
            found = seen[kind]
            assert found["checks"] == 20
            assert found["hits"] > 3
            assert found["above"] == found["below"] == 0, (seen["name"], kind, found)
        assert seen["told"]["sparse"]
        assert seen["distinct"] > 10  # outputs that differ from prompt to prompt

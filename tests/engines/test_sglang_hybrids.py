"""A real SGLang server with a tiny model of sliding windows: what is told is what is cached."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "engines"))

import sglang_hybrid_run

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


def test_what_is_told_is_what_is_cached(engine):
    engine("sglang")
    seen = sglang_hybrid_run.run(sglang_hybrid_run.job("mellum", checks=15))
    for kind in ("again", "shared"):
        found = seen[kind]
        assert found["checks"] == 15
        assert found["hits"] > 5
        assert found["above"] == found["below"] == 0, (kind, found)
    assert seen["told"]["sparse"]
    assert seen["distinct"] > 10  # outputs that differ from prompt to prompt

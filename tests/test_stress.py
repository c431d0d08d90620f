"""Many threads and tasks on one index, in short: scripts/stress_index.py checks all the while."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))

from stress_index import stress


@pytest.mark.slow
def test_many_threads_and_tasks_leave_the_index_whole() -> None:
    run = stress(seconds=8.0, num_threads=64, num_tasks=1000)
    for what in ("checks", "optimize", "batch", "awaited", "report", "cancelled"):
        assert run.done[what] > 0, what

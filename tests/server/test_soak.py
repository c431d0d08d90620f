"""A day's worth of requests, in its short form: scripts/soak_day.py judges it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "soak_day.py"


@pytest.mark.slow
def test_belief_is_true_after_restarts_and_evictions() -> None:
    command = [sys.executable, str(SCRIPT), "--requests", "1200", "--restart-every", "500"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lost: 0" in done.stdout

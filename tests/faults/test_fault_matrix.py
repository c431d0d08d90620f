"""Each fault is injected once, on scripted engines: scripts/fault_matrix.py judges them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "fault_matrix.py"
ROW = re.compile(
    r"^\| (.+?) \| .+? \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| \d+ \|", re.M
)


def run(*arguments: str) -> tuple[int, str]:
    """Run the script; return its exit status, and what it printed."""
    command = [sys.executable, str(SCRIPT), "--times", "1", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "rows",
    [
        pytest.param("index killed|index hung", id="index"),
        pytest.param("engine killed|engine hung", id="engine"),
        pytest.param("messages lost|messages reordered|disk|descriptors", id="shortages"),
        pytest.param("slow clients|drip|reporters", id="strangers"),
    ],
)
def test_what_is_expected_holds_and_nothing_is_lost(rows: str) -> None:
    status, printed = run("--only", rows)
    assert status == 0, printed
    found = ROW.findall(printed)
    assert len(found) == rows.count("|") + 1, printed
    for name, injected, survived, _, lost in found:
        assert int(injected.replace(",", "")) > 0, name
        assert (survived, lost) == (injected, "0"), printed

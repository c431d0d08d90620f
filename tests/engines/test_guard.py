"""What a launcher started ends with it, even if nothing of the launcher runs any more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts" / "engines"
LAUNCHER = """
import os, subprocess, sys
from guard import ending_with_us
quiet = subprocess.DEVNULL
child = subprocess.Popen(["sleep", "60"], start_new_session=True, stdout=quiet)
with ending_with_us(child.pid):
    print(child.pid, flush=True)
    if sys.argv[1] == "stays":
        sys.stdin.readline()
print("left", flush=True)
"""


def launcher(how: str) -> tuple[subprocess.Popen[str], int]:
    """Start a launcher; return it and its child's process id."""
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, how],
        cwd=SCRIPTS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def is_running(pid: int) -> bool:
    """Return whether a process exists and is no zombie; Linux only."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_launcher_takes_its_engine_along(number: signal.Signals) -> None:
    process, child = launcher("stays")
    assert is_running(child)
    process.send_signal(number)
    process.communicate()
    deadline = time.monotonic() + 20
    while is_running(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_after_the_block_nothing_is_killed() -> None:
    process, child = launcher("goes")
    output, _ = process.communicate()
    assert output == "left\n"
    assert is_running(child)
    os.kill(child, signal.SIGKILL)

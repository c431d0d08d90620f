"""CPU time of a process and of what it starts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prefix_engine import PrefixEngine, running
from runner import Runner

from contextpilot.bench.cpu import EngineCpu
from contextpilot.errors import CommandError

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")

_WORK = "import time; t = time.process_time\nwhile t() < 0.3: pass\nprint('done', flush=True)"
_PARENT = f"""
import subprocess, sys
worker = subprocess.Popen([sys.executable, "-c", {_WORK + "; input()"!r}], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE)
worker.stdout.readline()
print("done", flush=True)
input()
"""


def test_the_work_of_children_counts() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seconds = EngineCpu(process.pid).seconds()
        process.kill()
    assert seconds >= 0.29


def test_time_that_passes_without_work_does_not_count() -> None:
    cpu = EngineCpu(os.getpid())
    before = cpu.seconds()
    time.sleep(0.3)
    assert cpu.seconds() - before < 0.2


def test_no_such_process_is_refused(run: Runner, workload: Path) -> None:
    with pytest.raises(CommandError, match="there is no such process"):
        EngineCpu(1 << 30)
    told = run.refused("bench", "--engine", "http://h", "--workload", workload, "--pid", 1 << 30)
    assert f"--pid {1 << 30}: there is no such process" in told


def test_cpu_time_is_reported_beside_wall_time(run: Runner, workload: Path) -> None:
    with running(PrefixEngine()) as engine:
        shown = run("bench", "--engine", engine.url, "--workload", workload, "--json", "--pid",
                    os.getpid(), "--modes", "plain,online", "--repetitions", 3,
                    "--slice", 20)  # fmt: skip
    plain, online = shown.json()["modes"]
    assert plain["cpu_s"] > 0
    assert plain["cpu_throughput_ratio"]["value"] == 1.0
    assert online["cpu_throughput_ratio"]["value"] > 0

"""Runs many scripts quickly: python forked_runs.py, command lines as JSON on standard input.

One process imports what all of them need and forks for each; it has no threads. Writes, for each
command line, its status and what it wrote, as JSON.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import tempfile
import traceback
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
DEADLINE_S = 60


def run(argv: list[str]) -> tuple[int, str]:
    """Run one script in a child; return its status and its output, both streams together."""
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            os._exit(become(argv, output.fileno()))
        _, status = os.waitpid(child, 0)
        output.seek(0)
        return os.waitstatus_to_exitcode(status), output.read().decode(errors="replace")


def become(argv: list[str], output: int) -> int:
    """Be a script until it ends; return its status."""
    signal.alarm(DEADLINE_S)
    os.dup2(output, 1)
    os.dup2(output, 2)
    path = SCRIPTS / argv[0]
    sys.argv = [str(path), *argv[1:]]
    sys.path.insert(0, str(path.parent))
    status = 0
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as stop:
        if isinstance(stop.code, str):
            sys.stderr.write(stop.code)
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 70
    sys.stdout.flush()
    sys.stderr.flush()
    return status


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    import contextpilot.cli
    import contextpilot.plan.batch  # noqa: F401

    sys.stdout.write(json.dumps([run(argv) for argv in json.load(sys.stdin)]))

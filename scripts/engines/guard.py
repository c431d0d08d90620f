"""Ends an engine with us, however we end.

An engine runs in a process group of its own, so that all of its processes can be ended. A signal
that kills us runs no `finally`; the closing of our end of a pipe is seen by another process anyway.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

_WATCH = """
import os, signal, sys
if not sys.stdin.buffer.read(1):
    os.killpg(int(sys.argv[1]), signal.SIGKILL)
"""


@contextlib.contextmanager
def ending_with_us(group: int) -> Iterator[None]:
    """Kill a process group if this process ends before the block does.

    group: process id of the group's leader.
    """
    command = [sys.executable, "-I", "-S", "-c", _WATCH, str(group)]
    quiet = subprocess.DEVNULL
    watch = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True
    )
    try:
        yield
    finally:
        with contextlib.suppress(BrokenPipeError):
            watch.communicate(b"x")

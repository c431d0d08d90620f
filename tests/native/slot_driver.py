"""Runs the driver with the shim, and speaks with it line by line."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from types import TracebackType

import shim_build


class Driver:
    """`driver("rm", 0, 300, -1)` makes the call and returns its result.

    sanitizers: the driver has the shim linked in, under these; else the shim is preloaded.
    arguments: its command line, which the shim reads and the driver ignores.
    """

    def __init__(
        self,
        url: str | None,
        sanitizers: str = "",
        arguments: Sequence[str] = (),
        **variables: str,
    ) -> None:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("CONTEXTPILOT_")}
        if url is not None:
            environ["CONTEXTPILOT_INDEX_URL"] = url
        if not sanitizers:
            environ["LD_PRELOAD"] = str(shim_build.shim())
        # A later LD_PRELOAD="" runs the driver without the shim.
        environ.update(ASAN_OPTIONS="detect_leaks=1", TSAN_OPTIONS="halt_on_error=1", **variables)
        self.process = subprocess.Popen(
            [str(shim_build.driver(sanitizers)), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environ,
            text=True,
        )
        self.stderr = ""

    def __call__(self, *words: str | int) -> int:
        status, _, result = self.line(*words).partition(" ")
        assert status == "ok", (words, status, self.stderr)
        return int(result)

    def line(self, *words: str | int) -> str:
        """Send one command; the answer as it is."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if not answer:
            self.end()
            raise AssertionError(f"{words}: the driver ended: {self.stderr}")
        return answer

    def open(self) -> Driver:
        """Make context 0 and use it."""
        self("open", 0)
        self("use", 0)
        self("memory")
        return self

    def num_threads(self) -> int:
        """Threads of the driver now."""
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def end(self) -> int:
        """Close its input, wait, and return its exit status; `stderr` holds what it wrote."""
        if self.process.poll() is None or not self.stderr:
            _, self.stderr = self.process.communicate(timeout=60)
        return self.process.returncode

    def __enter__(self) -> Driver:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self.process.kill()
        if not self.process.stdin.closed:  # type: ignore[union-attr]
            status = self.end()
            assert error is not None or status == 0, self.stderr

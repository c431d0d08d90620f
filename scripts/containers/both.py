"""Runs an engine and `contextpilot serve` in front of it, as the first process of a container.

    python both.py vllm serve --host 127.0.0.1 --port 8000 MODEL

Settings come from the environment; CONTEXTPILOT_ENGINE is where the engine listens. Both share an
index token: CONTEXTPILOT_INDEX_TOKEN, or one that is made up for this run. When either ends, the
other is stopped and the container ends with its exit status, so that whoever runs it starts both
anew; a signal to stop goes to both, and that is success.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys

GRACE_S = 30
"""Then what has not ended is killed: the time that Docker and Kubernetes give, or less."""
INDEX_URL = "http://127.0.0.1:{port}"
SERVE = (sys.executable, "-m", "contextpilot", "serve")


def main(engine: list[str]) -> int:
    """Run both until one ends or a signal comes; return the exit status."""
    if not engine:
        print("both.py: name the engine's command", file=sys.stderr)
        return 2
    environ = dict(os.environ)
    environ["CONTEXTPILOT_INDEX_TOKEN"] = os.environ.get(
        "CONTEXTPILOT_INDEX_TOKEN"
    ) or secrets.token_urlsafe(24)
    port = environ.get("CONTEXTPILOT_PORT", "8765")
    reports = environ | {"CONTEXTPILOT_INDEX_URL": INDEX_URL.format(port=port)}
    children = Children()
    try:
        children.start(SERVE, environ)
        children.start(engine, reports)
    except OSError as error:
        print(f"both.py: {error}", file=sys.stderr)
        children.stop()
        children.reap_all()
        return 127
    return children.reap_all()


class Children:
    """Processes that live and end together. It reaps orphans, too, as a first process must."""

    def __init__(self) -> None:
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._told_to_stop = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop_for_good())
        signal.signal(signal.SIGALRM, lambda *_: self._signal(signal.SIGKILL))

    def start(self, command: list[str] | tuple[str, ...], environ: dict[str, str]) -> None:
        """Start one; raises OSError."""
        process = subprocess.Popen(command, env=environ)
        self._running[process.pid] = process

    def reap_all(self) -> int:
        """Wait until all have ended, stopping the others when one does; return the status."""
        first: int | None = None
        if self._told_to_stop:  # while they were started
            self.stop()
        while self._running:
            pid, status = os.wait()
            process = self._running.pop(pid, None)
            if process is None:
                continue
            process.returncode = os.waitstatus_to_exitcode(status)
            if first is None:
                first = process.returncode
                self.stop()
        if self._told_to_stop:
            return 0
        return abs(first or 0) or 1  # neither is ever done by itself

    def stop(self) -> None:
        """Ask all to end, and kill them after a while."""
        self._signal(signal.SIGTERM)
        signal.alarm(GRACE_S)

    def _stop_for_good(self) -> None:
        self._told_to_stop = True
        self.stop()

    def _signal(self, number: int) -> None:
        for process in self._running.values():
            os.kill(process.pid, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

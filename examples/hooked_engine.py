"""An engine that reports what it evicts: python examples/hooked_engine.py

Starts an index, then an engine that knows its address, and asks ten questions twice. Prints how
much of the prompts the engine had cached: in the order given, planned by an index that assumes
nothing is evicted, and planned by one that is told of evictions. Without a command, a simulated
engine with a small cache is used. If ContextPilot is installed with a real engine, its hooks
report:

    python examples/hooked_engine.py vllm serve MODEL --port 8000 --enable-prompt-tokens-details
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import requests
from measure import Turn, asked
from pretend_engine import pretend_engine
from retrieval import QUESTIONS, retrieve

import contextpilot as cp
from contextpilot.client import Client

TURNS = [Turn(question, retrieve(question)) for question in QUESTIONS] * 2
ROOM = 15_000
"""Characters of the pretended engine's cache: two prompts."""


@contextlib.contextmanager
def launched(command: list[str], index_url: str) -> Iterator[str]:
    """Yield the URL of an engine that reports to an index."""
    port = command[command.index("--port") + 1] if "--port" in command else "8000"
    url = f"http://127.0.0.1:{port}"
    told = {**os.environ, "CONTEXTPILOT_INDEX_URL": index_url}
    with subprocess.Popen(command, env=told, stdout=subprocess.DEVNULL) as engine:
        try:
            while engine.poll() is None:
                with contextlib.suppress(requests.ConnectionError):
                    if requests.get(f"{url}/v1/models", timeout=30).ok:
                        break
                time.sleep(0.5)
            else:
                raise SystemExit(f"{command[0]} ended with status {engine.returncode}")
            yield url
        finally:
            engine.terminate()


@contextlib.contextmanager
def pretended(index_url: str) -> Iterator[str]:
    """Yield the URL of an engine that computes nothing, and reports to an index."""
    with Client(index_url) as index, pretend_engine(ROOM, lambda name: index.evict([name])) as url:
        yield url


def main() -> None:
    """Ask in all three ways."""
    with cp.ContextPilot(listen="127.0.0.1:0") as pilot:
        index_url = str(pilot.index_url)
        command = sys.argv[1:]
        with launched(command, index_url) if command else pretended(index_url) as url:
            for name, planner in (
                ("in the order given", cp.ContextPilot(reorder=False)),
                ("planned, not told", cp.ContextPilot()),
                ("planned, told", pilot),
            ):
                print(f"{name:18} {asked(url, planner, TURNS).hit_ratio:6.1%}")
        for engine in pilot.engines():
            print(engine)


if __name__ == "__main__":
    main()

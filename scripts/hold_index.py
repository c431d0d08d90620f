"""Hold an engine's index unreachable, and print what that does to the engine.

    python scripts/hold_index.py --minutes 10
    python scripts/hold_index.py --engine vllm --minutes 10

The index takes connections and says nothing, then takes none, in turn. Clients ask the engine all
the while. Fails when a request is lost, or memory of the engine's processes grows by more than
`--max-growth` of what they had once half of the time was over. `--engine` as in fault_matrix.py.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from faults.load import CHAT, MODEL, Load, contexts_of
from faults.machines import ask
from faults.world import World, told
from machine import machine_line, memory_mb

TURN_S = 30.0
"""How long the index is silent, and how long it is gone."""
CLIENTS = 2


@contextlib.contextmanager
def unreachable() -> Iterator[str]:
    """Give the URL of an index that never answers: it is silent and gone in turn."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]

    def work() -> None:
        while not ended.is_set():
            with socket.create_server(("127.0.0.1", port)) as listener:
                _take_and_say_nothing(listener, ended)
            ended.wait(TURN_S)

    thread = threading.Thread(target=work)
    thread.start()
    yield f"http://127.0.0.1:{port}"
    ended.set()
    thread.join()


def _take_and_say_nothing(listener: socket.socket, ended: threading.Event) -> None:
    listener.settimeout(0.2)
    until = time.monotonic() + TURN_S
    with contextlib.ExitStack() as held:
        while time.monotonic() < until and not ended.is_set():
            with contextlib.suppress(TimeoutError):
                held.enter_context(listener.accept()[0])


def direct(engine_url: str) -> Any:
    """Return what asks an engine without anything between."""

    def send(rng: random.Random) -> Any:
        content = "\n\n".join([*contexts_of(rng), f"Question {rng.random()}?"])
        messages = [{"role": "user", "content": content}]
        return ask(engine_url + CHAT, {"model": MODEL, "max_tokens": 2, "messages": messages}, 120)

    return send


def group_mb(pid: int) -> float:
    """Return the memory of a process and of all that came of it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return memory_mb(pid) + sum(group_mb(int(child)) for child in children)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    engines = ("scripted", "llamacpp", "vllm", "sglang")
    parser.add_argument("--engine", choices=engines, default="scripted")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--max-growth", type=float, default=0.05)
    args = parser.parse_args()
    print(f"{machine_line('contextpilot')} · engine: {args.engine}", flush=True)
    load, figures = Load(), []
    with unreachable() as url:
        engine = World(args.engine, 1).new_engine(url)
        try:
            engine.start()
            with load.running(direct(engine.url), CLIENTS):
                for _ in range(4):
                    time.sleep(60 * args.minutes / 4)
                    figures.append((load.answered, group_mb(engine.pid)))
                    print(f"answered {load.answered}, {figures[-1][1]:.0f} MB", flush=True)
        finally:
            engine.kill()
    growth = figures[3][1] / figures[1][1] - 1
    print(f"lost {load.num_lost} {told(load)}; memory {growth:+.1%} in the second half")
    return int(load.num_lost > 0 or growth > args.max_growth)


if __name__ == "__main__":
    import plainly

    plainly.run(main)

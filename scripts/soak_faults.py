"""Load a server for a long time while all faults of the matrix come in a random order.

    python scripts/soak_faults.py --minutes 30 --engines llamacpp,vllm,sglang

The engines fail one after the other, each for its share of the time: killed, stopped, started
again, with other flags, cut off from the index, their messages lost, doubled and reordered. A
scripted engine stands in. Clients ask for documents, leave in mid-request, invent keys and
reporters, and send in drops. Fails when a request is lost, when the server logs an error or when
its memory grows.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import socket
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faults.load import CHAT, MODEL, Load, contexts_of, through
from faults.machines import Index, Real, Scripted, ask, wait_for
from faults.postman import Postman
from faults.strangers import ask_delete
from machine import machine_line

MAX_GROWTH = 1.05
WARM_UP = 0.2
BETWEEN_S = 5.0
HANG_S = 15.0
SYNC_FAULT_S = 5.0


class Soak:
    """One server, the engines behind it, and what becomes of its clients' requests."""

    def __init__(self, log: Path, seed: int) -> None:
        self.standby = Scripted()
        self.index = Index(
            (self.standby.url,),
            log=str(log),
            max_blocks=5_000,
            max_namespaces=20,
            window_size=512,
            read_timeout_s=HANG_S,
            client_timeout_s=5.0,
        )
        self.standby.index_url = self.index.url
        self.postman = Postman()
        self.postman.index_url = self.index.url
        self.load, self.faults = Load(), Counter[str]()
        self.samples: list[float] = []
        self._rng = random.Random(seed)
        self._ended = threading.Event()

    def run(self, engines: list[str], minutes: float) -> None:
        """Let each engine fail for its share of the time."""
        self.standby.start()
        self.index.start()
        began = time.monotonic()
        with (
            self.load.running(self._send),
            self.load.running(self._stranger, 1),
            beside(self._sample, self._ended),
        ):
            for number, name in enumerate(engines):
                ends_at = began + 60 * minutes * (number + 1) / len(engines)
                self._fail(name, ends_at)
            self._ended.set()

    def close(self) -> None:
        """End all."""
        self.index.kill()
        self.standby.kill()
        self.postman.close()

    # -- faults ----------------------------------------------------------------------------------

    def _fail(self, name: str, ends_at: float) -> None:
        """Run an engine, and let it fail, until a time."""
        engine: Any = Scripted() if name == "scripted" else Real(name)
        engine.index_url = self.postman.url
        if not self._begun(engine, ends_at):
            print(f"{name} did not start in its time", flush=True)
            return
        ask(f"{self.index.url}/engines", {"url": engine.url, "name": name})
        kinds: list[Callable[[Any, float], None]] = [self._kill, self._upgrade, self._hang]
        sync = [lambda *_, fault=fault: self._sync(fault) for fault in FAULTS]  # type: ignore[misc]
        while time.monotonic() < ends_at:
            self._rng.choice([*kinds, *sync])(engine, ends_at)
            time.sleep(min(BETWEEN_S, max(0.0, ends_at - time.monotonic())))
            self._tell(name)
        ask_delete(f"{self.index.url}/engines/{name}")
        engine.kill()

    def _begun(self, engine: Any, ends_at: float) -> bool:
        """Start an engine, again where the machine was too busy; return whether it runs."""
        while time.monotonic() < ends_at:
            with contextlib.suppress(RuntimeError):
                engine.start()
                return True
            engine.kill()
        return False

    def _kill(self, engine: Any, ends_at: float) -> None:
        self.faults["killed"] += 1
        engine.kill()
        time.sleep(1)
        self._begun(engine, ends_at)

    def _upgrade(self, engine: Any, ends_at: float) -> None:
        self.faults["upgraded"] += 1
        engine.kill()
        engine.upgrade()
        self._begun(engine, ends_at)

    def _hang(self, engine: Any, _: float) -> None:
        self.faults["hung"] += 1
        with contextlib.suppress(AssertionError, OSError):
            engine.hang(True)
            wait_for(lambda: any(not one["up"] for one in self._states()), 30)
            engine.hang(False)

    def _sync(self, fault: str) -> None:
        before = self.postman.done[fault]
        self.postman.fault = fault
        time.sleep(SYNC_FAULT_S)
        self.postman.fault = ""
        self.faults[f"messages {fault}"] += self.postman.done[fault] - before

    def _states(self) -> list[Any]:
        return list(self.index.engine_states().values())

    # -- clients ---------------------------------------------------------------------------------

    def _send(self, rng: random.Random) -> Any:
        key = f"Bearer {rng.randrange(5)}"
        return through(self.index.url, Authorization=key)(rng)

    def _stranger(self, rng: random.Random) -> None:
        """Do one thing that no client of good will does; nobody counts an answer."""
        kind = rng.choice(("leaves", "drips", "key", "reporter"))
        self.faults[f"a client {kind}"] += 1
        if kind == "key":
            through(self.index.url, Authorization=f"Bearer {rng.random()}")(rng)
        elif kind == "reporter":
            message = {"version": 1, "epoch": "a", "seq": 0, "events": []}
            ask(f"{self.index.url}/sync", {**message, "engine": f"invented {rng.random()}"})
        else:
            given = {"contexts": contexts_of(rng), "query": f"{rng.random()}?"}
            body = json.dumps({"model": MODEL, "max_tokens": 2, "contextpilot": given}).encode()
            head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            sent = body if kind == "leaves" else body[: len(body) // 2]
            with socket.create_connection(("127.0.0.1", self.index.port), 60) as connection:
                connection.sendall(head.encode() + sent)
                time.sleep(rng.uniform(0, 0.2))

    # -- what is seen ----------------------------------------------------------------------------

    def _sample(self) -> None:
        while not self._ended.wait(1.0):
            with contextlib.suppress(OSError, RuntimeError):
                self.samples.append(self.index.memory_mb)

    def _tell(self, name: str) -> None:
        total = sum(self.faults.values())
        row = f"| {name} | {total:,} | {self.load.answered:,} | {self.load.num_lost} |"
        print(f"{row} {self.samples[-1] if self.samples else 0:.0f} |", flush=True)

    def judge(self, log: Path) -> int:
        """Print what became of it; return the exit status."""
        for name, count in sorted(self.faults.items()):
            print(f"  {name:<24} {count:,}")
        for name, count in self.load.lost.items():
            print(f"  lost: {count} × {name}")
        warm = self.samples[int(WARM_UP * len(self.samples)) :] or [0.0]
        quarter = max(1, len(warm) // 4)
        first, last = statistics.median(warm[:quarter]), statistics.median(warm[-quarter:])
        lines = log.read_text().splitlines()
        for line in lines[:5]:
            print(f"  {line[:300]}")
        print(f"answered: {self.load.answered:,}; lost: {self.load.num_lost}")
        print(f"memory after the warm-up, first and last quarter: {first:.0f} and {last:.0f} MB")
        print(f"errors in the server's log: {len(lines)}")
        return int(bool(self.load.num_lost or lines or last > MAX_GROWTH * first))


FAULTS = ("cut", "lost", "doubled", "reordered")


@contextlib.contextmanager
def beside(work: Callable[[], None], ended: threading.Event) -> Any:
    """Run something on a thread until the block ends."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def main() -> int:
    """Run the soak."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--engines", default="scripted", help="scripted, llamacpp, vllm, sglang")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--installed-hooks", action="store_true", help="leave the hooks as they are"
    )
    arguments = parser.parse_args()
    Real.brings_hooks = not arguments.installed_hooks
    print(f"{machine_line('fastapi', 'uvicorn', 'uvloop')} · engines: {arguments.engines}\n")
    print("| engine | faults | answered | lost | memory MB |\n|---|---|---|---|---|", flush=True)
    log = Path(tempfile.mkstemp(suffix=".log")[1])
    soak, began = Soak(log, arguments.seed), time.monotonic()
    try:
        soak.run(arguments.engines.split(","), arguments.minutes)
        print(f"\n{(time.monotonic() - began) / 60:.1f} minutes")
        return soak.judge(log)
    finally:
        soak.close()
        log.unlink()


if __name__ == "__main__":
    import plainly

    plainly.run(main)

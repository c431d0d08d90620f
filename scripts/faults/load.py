"""Clients that go on whatever happens, and count what becomes of their requests."""

from __future__ import annotations

import contextlib
import random
import threading
import time
import urllib.error
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import contextpilot as cp
from faults.machines import ask

CHAT = "/v1/chat/completions"
MODEL = "tiny"
NUM_CLIENTS = 4
PAUSE_S = 0.01
TIMEOUT_S = 60.0
DOCUMENTS = [f"Document {n}: " + f"fact {n} of the matter, " * 12 for n in range(40)]

Send = Callable[[random.Random], Any]


@dataclass
class Load:
    """What clients sent, and what became of it.

    Attributes:
        lost: requests without an answer of an engine, by what came instead.
        notes: what else did not go as it should.
    """

    answered: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def num_lost(self) -> int:
        """Requests that were lost."""
        return self.lost.total()

    def tell(self, send: Send, rng: random.Random) -> bool:
        """Send one request, and count what becomes of it; return whether it was answered."""
        try:
            send(rng)
        except urllib.error.HTTPError as error:
            outcome = f"{error.code}"
        except (OSError, ValueError) as error:
            outcome = f"{type(error).__name__}: {error}"[:80]
        else:
            with self._lock:
                self.answered += 1
            return True
        with self._lock:
            self.lost[outcome] += 1
        return False

    @contextlib.contextmanager
    def running(self, send: Send, num_clients: int = NUM_CLIENTS) -> Iterator[None]:
        """Let so many clients send one request after another until the block ends."""
        ended = threading.Event()

        def work(number: int) -> None:
            rng = random.Random(number)
            while not ended.wait(PAUSE_S):
                self.tell(send, rng)

        threads = [
            threading.Thread(target=work, args=(n,), daemon=True) for n in range(num_clients)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            for thread in threads:
                thread.join(2 * TIMEOUT_S)

    def wait(self, count: int, seconds: float = 60.0) -> None:
        """Wait until so many more were answered, or for so long."""
        goal, until = self.answered + count, time.monotonic() + seconds
        while self.answered < goal and time.monotonic() < until:
            time.sleep(0.02)


def contexts_of(rng: random.Random) -> list[str]:
    """Return some documents; some are asked for more often."""
    return rng.sample(DOCUMENTS[: rng.choice((8, 40))], 4)


def through(index_url: str, **headers: str) -> Send:
    """Return what sends a request through the proxy, its documents handed over."""

    def send(rng: random.Random) -> Any:
        given = {"contexts": contexts_of(rng), "query": f"Question {rng.random()}?"}
        body = {"model": MODEL, "max_tokens": 2, "contextpilot": given}
        return ask(index_url + CHAT, body, TIMEOUT_S, **headers)

    return send


def beside(pilot: cp.ContextPilot, engine_url: str) -> Send:
    """Return what plans with the library, and sends the prompt to the engine itself."""

    def send(rng: random.Random) -> Any:
        messages = pilot.optimize(contexts_of(rng), f"Question {rng.random()}?")
        body = {"model": MODEL, "max_tokens": 2, "messages": list(messages)}
        return ask(engine_url + CHAT, body, TIMEOUT_S, X_Request_Id=messages.request_id)

    return send

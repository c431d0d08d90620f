"""A circuit: while a server does not answer, nobody waits for it but one thread in the background.

By hand: breakers that others keep try a dead server with a caller's own request, who then waits.

| state  | calls                  | thread                                                      |
|--------|------------------------|-------------------------------------------------------------|
| closed | ask the server         | none                                                        |
| open   | are told not to, in µs | probes after growing pauses; ends at the first success, or  |
|        |                        | when nobody called since its last probe                     |
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0


class Circuit:
    """Tells whether a server is worth asking. Thread-safe.

    Args:
        probe: asks the server something that changes nothing; returns whether it answered well.
        first_pause_s: from a failure to the first probe; doubles until a call succeeds.
    """

    def __init__(self, probe: Callable[[], bool], first_pause_s: float = _FIRST_PAUSE_S) -> None:
        self._probe = probe
        self._first_pause = self._pause = first_pause_s
        self._is_open = False
        self._calls = 0
        self._due = 0.0
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether calls are told not to ask."""
        return self._is_open

    def allows(self) -> bool:
        """Return whether to ask the server now."""
        if not self._is_open:
            return True
        with self._lock:
            self._calls += 1
            self._start()
            return not self._is_open

    def succeeded(self) -> None:
        """Note that a call was answered."""
        if self._pause != self._first_pause:
            with self._lock:
                self._pause = self._first_pause

    def failed(self) -> None:
        """Open the circuit: a call was not answered, or not as it should be."""
        with self._lock:
            if not self._is_open:
                self._is_open = True
                self._wait()
            self._start()

    def close(self) -> None:
        """End the background thread; it may take one more probe's time. A call starts it again."""
        with self._lock:
            self._stop.set()
            self._thread = None

    def _wait(self) -> None:
        """Set the time of the next probe, and a longer pause after it."""
        self._due = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_S)

    def _start(self) -> None:
        if self._is_open and (self._thread is None or not self._thread.is_alive()):
            self._stop = threading.Event()
            self._thread = threading.Thread(
                target=self._run, args=(self._stop,), name="contextpilot-probe", daemon=True
            )
            self._thread.start()

    def _run(self, stop: threading.Event) -> None:
        seen = self._calls
        while not stop.wait(max(0.0, self._due - time.monotonic())):
            answers = self._probe()
            with self._lock:
                if stop.is_set():
                    return
                if answers:
                    self._is_open = False
                else:
                    self._wait()
                if answers or seen == self._calls:
                    self._thread = None
                    return
                seen = self._calls

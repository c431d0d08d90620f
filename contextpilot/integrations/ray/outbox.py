"""Sends each request once, whoever asks for it and however often. Knows nothing of Ray.

| what a request is | what `ask` does |
|---|---|
| answered | returns the answer from the journal |
| on its way | waits for that answer |
| in doubt: a process died between sending it and recording its answer | as `in_doubt` says |
| new, or it certainly did not get there, or the server failed (5xx) | sends it |
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from urllib.parse import urlsplit

from contextpilot.http.blocking import BlockingHttp
from contextpilot.integrations.ray.journal import Answer, Journal

IN_DOUBT = ("again", "leave")
NO_ANSWER = 0
"""The status of a request that nobody knows the answer of; its body says why."""
_BUSY = (429, 503)
"""Refusals: the request was not run, and may be sent again."""
_ID = "X-Request-Id"
_CONNECT_TIMEOUT_S = 10.0
_LEAST_S = 1.0
"""An attempt has this long at least: it may come just before the time is over."""
_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)


def check(in_doubt: str, timeout_s: float) -> None:
    """Raise ValueError unless these settings are in range."""
    if in_doubt not in IN_DOUBT:
        raise ValueError(f"in_doubt must be one of {', '.join(IN_DOUBT)}, not {in_doubt!r}")
    if not timeout_s > 0:
        raise ValueError(f"timeout_s must be above 0, but is {timeout_s}")


class Outbox:
    """Sends requests over HTTP, each key once. Thread-safe.

    Args:
        journal: a file in which to note what was sent and answered; None keeps it in memory, for as
            long as this process lives.
        in_doubt: "again" sends a request once more that was on its way when a process died, under
            the same `Idempotency-Key`; "leave" answers it with status 0.
        timeout_s: longest wait for one answer.
        headers: sent with every request.

    Raises:
        ValueError: `in_doubt` or `timeout_s` is out of range, or the file is no journal.
        OSError: the journal cannot be opened.
    """

    def __init__(
        self,
        journal: str | None = None,
        in_doubt: str = "again",
        timeout_s: float = 600.0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.set(in_doubt, timeout_s, headers)
        self._journal = Journal(journal)
        self._servers: dict[str, BlockingHttp] = {}
        self._running: dict[str, Future[Answer]] = {}
        self._lock = threading.Lock()

    def set(
        self, in_doubt: str, timeout_s: float, headers: Mapping[str, str] | None = None
    ) -> None:
        """Have these settings hold from now on."""
        check(in_doubt, timeout_s)
        self._sends_again = in_doubt == "again"
        self._timeout = timeout_s
        self._headers = {"Content-Type": "application/json", **(headers or {})}

    def ask(
        self, key: str, url: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Return status and body of the answer to a request, which is sent if it never was.

        Status 0 is no answer: the body says what happened, and the request is in doubt from then.
        """
        with self._lock:
            running = self._running.get(key)
            if running is None:
                known = self._journal.answer(key)
                if known is not None:
                    return known
                if self._journal.doubts(key) and not self._sends_again:
                    return Answer(NO_ANSWER, "in doubt: sent before, and its answer is not known")
                own = self._running[key] = Future()
        if running is not None:
            return running.result()
        try:
            own.set_result(self._sent(key, url, body, headers or {}))
        except BaseException as error:
            own.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._running[key]
        return own.result()

    def counts(self) -> dict[str, int]:
        """Return how many requests are answered."""
        return {"answered": len(self._journal)}

    def close(self) -> None:
        """Close the connections, and let another process have the journal."""
        for server in self._servers.values():
            server.close()
        self._journal.close()

    def _sent(self, key: str, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send until there is an answer; again only what certainly was not run."""
        parts = urlsplit(url)
        http = self._server(f"{parts.scheme}://{parts.netloc}")
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        named = {**self._headers, **headers, "Idempotency-Key": key}
        doubts = self._journal.doubts(key)
        if doubts and _ID in named:  # engines refuse an id that may be on its way still
            named[_ID] += f"-{doubts + 1}"
        deadline, pauses = time.monotonic() + self._timeout, iter(_PAUSES_S)
        while True:
            self._journal.sending(key)
            try:
                left = max(_LEAST_S, deadline - time.monotonic())
                reply = http.call("POST", path, body, left, named)
            except ConnectionRefusedError as error:
                answer = Answer(NO_ANSWER, f"no connection: {error}")
            except OSError as error:
                return Answer(NO_ANSWER, f"no answer: {error}")
            else:
                answer = Answer(reply.status, reply.body.decode("utf-8", "replace"))
            if answer.status not in (NO_ANSWER, *_BUSY):
                self._note(key, answer)
                return answer
            self._journal.unsent(key)
            pause = next(pauses, _PAUSES_S[-1])
            if time.monotonic() + pause >= deadline:
                return answer
            time.sleep(pause)

    def _note(self, key: str, answer: Answer) -> None:
        if answer.status < 500:
            self._journal.answered(key, answer)
        else:  # it failed there: whoever asks later asks again
            self._journal.unsent(key)

    def _server(self, url: str) -> BlockingHttp:
        with self._lock:
            if url not in self._servers:
                self._servers[url] = BlockingHttp(url, {}, _CONNECT_TIMEOUT_S)
            return self._servers[url]

"""Planning on a shared index server, which sees keys and weights, never texts."""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from contextpilot.http.address import quoted
from contextpilot.http.blocking import BlockingHttp, Reply
from contextpilot.http.circuit import Circuit
from contextpilot.http.keys import checked_key
from contextpilot.jobs import decode_plans, encode_job
from contextpilot.namespace import Namespaces
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import NO_HEAD
from contextpilot.planning import Job, LocalPlanning, Planned, counted

logger = logging.getLogger(__name__)

DEFAULT_TIMEOUT_S = 2.0
_CONNECT_TIMEOUT_S = 1.0
_TIMEOUT_PER_BLOCK_S = 0.0005
"""So much longer an answer may take for each block of the job: a batch of thousands is work."""
_PROBE = Job("default", (), Bounds(), NO_HEAD, ())
"""A job without contexts: the server's whole way of planning, and nothing to learn."""
_NOT_OF_THE_JOB = frozenset((401, 403, 404, 405, 408, 429))
"""Refusals that the next job would meet, too."""


class _RefusalError(Exception):
    """The server refused this job; another one may suit it."""


class RemotePlanning:
    """Plans on the index server at `url`. Thread-safe.

    While the server cannot be reached, or answers what is no plan, requests are planned in this
    process, which is logged once; then no call waits for it until a probe in the background was
    answered. What this process asked for is counted in `namespaces`.

    Args:
        timeout_s: longest wait for the plan of one request; batches may take longer.
        progress: show a bar in a terminal while a large batch is planned here.

    Raises:
        TypeError, ValueError: `url` is no address, or `timeout_s` no positive number of seconds.
    """

    def __init__(
        self,
        url: str,
        namespaces: Namespaces,
        token: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        progress: bool = False,
    ) -> None:
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {checked_key('token', token)}"
        self._timeout = _checked(timeout_s)
        try:
            self._http = BlockingHttp(url, headers, min(_CONNECT_TIMEOUT_S, timeout_s))
        except ValueError:
            raise ValueError(
                f'index_url must be like "http://127.0.0.1:8765", not {quoted(url)}'
            ) from None
        self._namespaces = namespaces
        self._fallback = LocalPlanning(namespaces, progress)
        self._circuit = Circuit(self._answers)
        self._has_warned = False
        self._lock = threading.Lock()

    def run(self, job: Job) -> Iterator[Planned]:
        """Yield the requests as the server planned them, or as the fallback does."""
        planned = self._ask(job) if self._circuit.allows() else None
        if planned is None:
            yield from self._fallback.run(job)
            return
        space = self._namespaces.get(job.namespace)
        for item in planned:
            with space.lock:
                told = counted(space, job, item)
            self._namespaces.own(item.request_id, space)
            yield told

    def evict(self, request_ids: Sequence[str]) -> None:
        """Tell the server that it need not believe in these prompts; nothing if it is away."""
        if self._circuit.allows():
            body = json.dumps({"request_ids": request_ids}).encode()
            try:
                self._http.call("POST", "/evict", body, self._timeout)
            except OSError as error:
                self._circuit.failed()
                self._warn(error)

    def close(self) -> None:
        """Close the connections that are kept open between calls, and end a running probe."""
        self._circuit.close()
        self._http.close()

    def _ask(self, job: Job) -> list[Planned] | None:
        """Return the server's plans; None when it gives none."""
        try:
            planned = self._plans(job, secrets.token_hex(16))
        except _RefusalError as error:
            self._warn(error)
            return None
        except (OSError, ValueError) as error:
            self._circuit.failed()
            self._warn(error)
            return None
        self._circuit.succeeded()
        with self._lock:
            recovered, self._has_warned = self._has_warned, False
        if recovered:
            logger.warning("the index server at %s plans again", self._http.shown_url)
        return planned

    def _answers(self) -> bool:
        try:
            self._plans(_PROBE, None)
        except (OSError, ValueError, _RefusalError):
            return False
        return True

    def _plans(self, job: Job, job_id: str | None) -> list[Planned]:
        timeout = self._timeout + _TIMEOUT_PER_BLOCK_S * sum(map(len, job.contexts))
        body = json.dumps(encode_job(job, job_id)).encode()
        reply = self._http.call("POST", "/plan", body, timeout)
        if reply.status != 200:
            raise _refusal(reply)
        return decode_plans(_decoded(reply.body), job)

    def _warn(self, error: Exception) -> None:
        with self._lock:
            if self._has_warned:
                return
            self._has_warned = True
        told = str(error) or type(error).__name__
        url = self._http.shown_url
        if url.endswith("/v1"):
            told += " (an index is at the URL without /v1)"
        logger.warning("the index server at %s does not plan: %s; planning here", url, told)


def _refusal(reply: Reply) -> Exception:
    status = reply.status
    if status in (401, 403):
        return OSError(f"{status}: set CONTEXTPILOT_INDEX_TOKEN to the index server's token")
    told = reply.body[:200].decode("utf-8", "replace")
    if 400 <= status < 500 and status not in _NOT_OF_THE_JOB:
        return _RefusalError(f"{status}: {told}")
    return OSError(f"/plan answered {status}: {told}")


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("the answer is not JSON") from None


def _checked(timeout_s: float) -> float:
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, (int, float)):
        raise TypeError(f"index_timeout_s must be a number of seconds, not {timeout_s!r}")
    if not 0 < timeout_s <= 3600:
        raise ValueError(f"index_timeout_s must be above 0 and at most 3600, but is {timeout_s}")
    return float(timeout_s)

"""Planning on a shared index server, and the wire form of what is planned."""

from __future__ import annotations

import http.client
import json
import logging
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from contextpilot.block import Block, BlockKey
from contextpilot.explain import Explanation, first_miss
from contextpilot.namespace import Namespaces
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import Head, Plan
from contextpilot.planning import Job, LocalPlanning, Planned

logger = logging.getLogger(__name__)

_TIMEOUT_S = 10.0


class RemotePlanning:
    """Plans on the index server at `url`, which sees keys and weights, never texts.

    While the server cannot be reached, requests are planned in this process, which is logged
    once. What this process asked for is counted in `namespaces`.
    """

    def __init__(self, url: str, namespaces: Namespaces, token: str | None = None) -> None:
        parts = urllib.parse.urlsplit(url) if isinstance(url, str) else None
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f'index_url must be like "http://127.0.0.1:8765", not {url!r}')
        self._parts = parts
        self._namespaces = namespaces
        self._fallback = LocalPlanning(namespaces)
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._idle: list[http.client.HTTPConnection] = []
        self._is_down = False

    def run(self, job: Job) -> Iterator[Planned]:
        """Yield the requests as the server planned them, or as the fallback does."""
        try:
            planned = _decode_plans(self._post("/plan", encode_job(job)), job)
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
            if not self._is_down:
                self._is_down = True
                logger.warning("index server does not plan (%r): planning here", error)
            yield from self._fallback.run(job)
            return
        if self._is_down:
            self._is_down = False
            logger.warning("index server plans again")
        counts = self._namespaces.get(job.namespace).counts
        for item in planned:
            counts.add(item.explanation.total_tokens, item.explanation.matched_tokens)
            yield item

    def close(self) -> None:
        """Close the connections that are kept open between calls."""
        while self._idle:
            self._idle.pop().close()

    def _post(self, path: str, content: Any) -> Any:
        body = json.dumps(content).encode()
        kept = bool(self._idle)
        try:
            return self._exchange(path, body)
        except (OSError, http.client.HTTPException):
            if not kept:
                raise
        self.close()  # the server may have closed the connections that were kept
        return self._exchange(path, body)

    def _exchange(self, path: str, body: bytes) -> Any:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
        try:
            connection.request("POST", self._parts.path + path, body, self._headers)
            reply = connection.getresponse()
            text = reply.read()
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        if reply.status != 200:
            raise ValueError(f"{path} answered {reply.status}")
        return json.loads(text)

    def _connect(self) -> http.client.HTTPConnection:
        https = self._parts.scheme == "https"
        kind = http.client.HTTPSConnection if https else http.client.HTTPConnection
        return kind(self._parts.hostname or "", self._parts.port, timeout=_TIMEOUT_S)


# -- the wire form of a job: keys as text, no block's text -----------------------------------------


def encode_job(job: Job) -> dict[str, Any]:
    """Return a job as JSON content."""
    return {
        "namespace": job.namespace,
        "contexts": [
            [[_encode_key(block.key), block.weight] for block in context]
            for context in job.contexts
        ],
        "bounds": asdict(job.bounds),
        "head": [[_encode_key(key) for key in job.head.keys], job.head.tokens],
        "tails": list(job.tails),
    }


def decode_job(content: Any) -> Job:
    """Return the job in decoded JSON; raise ValueError or TypeError when it is none."""
    if not isinstance(content, Mapping):
        raise ValueError("body must be a JSON object")
    try:
        contexts = [
            [Block(_decode_key(key), "", int(weight), None) for key, weight in context]
            for context in content["contexts"]
        ]
        keys, tokens = content["head"]
        head = Head(tuple(_decode_key(key) for key in keys), int(tokens))
        tails = [int(tail) for tail in content["tails"]]
        job = Job(str(content["namespace"]), contexts, Bounds(**content["bounds"]), head, tails)
    except KeyError as error:
        raise ValueError(f"field {error} is missing") from None
    if len(tails) != len(contexts):
        raise ValueError("tails must give one number for each of contexts")
    return job


def encode_plans(planned: Iterator[Planned]) -> dict[str, Any]:
    """Return planned requests as JSON content."""
    return {
        "plans": [
            [position, plan.order, plan.num_live, explanation.as_dict()]
            for position, plan, explanation in planned
        ]
    }


def _decode_plans(content: Any, job: Job) -> list[Planned]:
    planned = []
    for position, order, num_live, explanation in content["plans"]:
        context = job.contexts[position]
        if sorted(order) != list(range(len(context))):
            raise ValueError("the index server's order is no permutation")
        plan = Plan(tuple(order), num_live)
        explained = replace(Explanation(**explanation), first_miss=first_miss(context, plan))
        planned.append(Planned(position, plan, explained))
    if sorted(item.position for item in planned) != list(range(len(job.contexts))):
        raise ValueError("the index server did not plan every context")
    return planned


def _encode_key(key: BlockKey) -> Any:
    if isinstance(key, bytes):
        return key.hex()
    if isinstance(key, tuple):
        return [_encode_key(part) for part in key]
    return {"id": key}


def _decode_key(key: Any) -> BlockKey:
    if isinstance(key, str):
        return bytes.fromhex(key)
    if isinstance(key, list):
        return tuple(_decode_key(part) for part in key)
    if isinstance(key, dict) and isinstance(key.get("id"), (str, int)):
        identity: str | int = key["id"]
        return identity
    raise ValueError(f"{key!r} is no block key")

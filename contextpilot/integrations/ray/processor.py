"""`ray.data.llm`: its HTTP processor, sending in order and through an outbox."""

from __future__ import annotations

import http.client
import json
from collections import Counter
from collections.abc import Awaitable
from typing import Any

from aiohttp import ClientConnectionError
from ray.data.llm import HttpRequestProcessorConfig

from contextpilot.integrations.ray.asking import PATH, request_of
from contextpilot.integrations.ray.outbox import NO_ANSWER

_KEY, _NAME = "contextpilot_key", "contextpilot_id"
"""Members of a payload that go no further than the outbox."""


def payload(row: dict[str, Any], **body: Any) -> dict[str, Any]:
    """Return what `preprocess` gives a processor of `processor_config` for a planned row.

    preprocess=lambda row: {**row, "payload": payload(row, model="...")}
    """
    key, _ = request_of(row, body)
    return {**body, "messages": row["messages"], _KEY: key, _NAME: row["request_id"]}


def processor_config(planned: Any, url: str, outbox: Any, **more: Any) -> Any:
    """Return an `HttpRequestProcessorConfig` whose requests keep order, and are sent once each.

    Each partition is one batch of one worker, which sends its requests one by one. Plan with
    `slack=0`: what a partition has more than the smallest is a batch of its own, beside the first.

    Args:
        planned: what `plan` returned.
        url: base URL of the endpoint, ending in /v1.
        outbox: what `start_outbox` returned.
        more: further fields of the config.
    """
    rows = planned.select_columns(["partition"]).take_all()
    sizes = Counter(row["partition"] for row in rows)
    fields = {
        "url": f"{url.rstrip('/')}{PATH}",
        "batch_size": min(sizes.values(), default=1),
        "concurrency": max(1, len(sizes)),
        "session_factory": _Sessions(outbox),
    }
    return HttpRequestProcessorConfig(**{**fields, **more})


class _Sessions:
    """Makes sessions that send through an outbox; goes to the workers with its handle."""

    def __init__(self, outbox: Any) -> None:
        self._outbox = outbox

    def __call__(self) -> _Session:
        return _Session(self._outbox)


class _Session:
    """What the processor needs of an `aiohttp.ClientSession`."""

    def __init__(self, outbox: Any) -> None:
        self._outbox = outbox

    async def __aenter__(self) -> _Session:
        return self

    async def __aexit__(self, *exception: object) -> None:
        pass

    def post(self, url: str, *, headers: Any, data: str, **_: Any) -> Awaitable[_Response]:
        """Return what sends a request once it is awaited, as aiohttp's does."""
        body = json.loads(data)
        if _KEY not in body:
            raise ValueError("payload must be what contextpilot.integrations.ray.payload returns")
        key, name = body.pop(_KEY), body.pop(_NAME)
        sent = json.dumps(body, sort_keys=True).encode()
        return self._answer(key, url, sent, {**headers, "X-Request-Id": name})

    async def _answer(self, key: str, url: str, body: bytes, headers: Any) -> _Response:
        status, text = await self._outbox.ask.remote(key, url, body, headers)
        if status == NO_ANSWER:
            raise ClientConnectionError(text)
        return _Response(status, text)


class _Response:
    """What the processor reads of an answer."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.reason = http.client.responses.get(status, "")
        self._text = text

    async def __aenter__(self) -> _Response:
        return self

    async def __aexit__(self, *exception: object) -> None:
        pass

    async def json(self) -> Any:
        """Return the JSON of the answer."""
        return json.loads(self._text)

"""Answers requests that are not served, and counts them."""

from __future__ import annotations

import json

from contextpilot.prompt.apis.shape import Shape
from contextpilot.server.observe.metrics import Metrics
from contextpilot.server.observe.reasons import Refusals
from contextpilot.server.proxy.relay import Delivery
from contextpilot.server.request_body import RETRY_AFTER_S

_JSON = (b"content-type", b"application/json")


class Refuser:
    """Tells clients, metrics and log that a request is refused."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._refusals = Refusals()

    async def __call__(
        self,
        delivery: Delivery,
        shape: Shape,
        status: int,
        message: str,
        code: str,
        field: str | None = None,
    ) -> None:
        """Answer with an error of the API that is spoken, unless an answer has begun."""
        self._metrics.add("requests_total", api=shape.name, outcome="refused")
        self._metrics.add("refused_total", reason=code)
        self._refusals.note(code, status)
        if not delivery.has_begun:
            body = json.dumps(shape.error(status, message, field)).encode()
            length = (b"content-length", str(len(body)).encode())
            later = [(b"retry-after", b"%d" % RETRY_AFTER_S)] if status in (429, 503) else []
            await delivery.reply(status, [_JSON, length, *later], body)

"""Planned prompts to answers, by workers that send in order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import ray

from contextpilot.integrations.ray.sender import start_outbox

PATH = "/chat/completions"


def request_of(row: dict[str, Any], more: dict[str, Any]) -> tuple[str, bytes]:
    """Return key and body of the request that a planned row is; the key names the whole body."""
    body = json.dumps({**more, "messages": row["messages"]}, sort_keys=True).encode()
    return sha256(row["key"].encode() + body).hexdigest()[:32], body


def ask(
    planned: Any,
    url: str | Sequence[str],
    *,
    outbox: Any = None,
    window: int = 1,
    cache_tokens: int | None = None,
    num_cpus: float = 0.1,
    **body: Any,
) -> Any:
    """Return the dataset with the answers of an OpenAI endpoint: `status`, `answer`, `response`.

    Each partition is sent by one worker, in order. `answer` is the text of the first choice, and
    `response` the whole JSON as a text; where `status` is not 200, it says why. Rows come as
    partitions end: `sort("place")` brings them into the order of the dataset that was planned.

    Args:
        planned: what `plan` returned, with all its partitions.
        url: base URL of the endpoint, ending in /v1; of several, partition n is sent to the n-th,
            counted round.
        outbox: what `start_outbox` returned; default: one with a journal of its own.
        window: requests of a partition that may be on their way at once. More than one keeps an
            engine that batches busy; neighbours on their way together share less.
        cache_tokens: tokens of one engine's cache for this partition: what is on its way at once
            stays below it, so that it does not drive out what comes next.
        num_cpus: what Ray sets aside for each worker, which mostly waits.
        body: further members of each request: `model`, `max_tokens`, ...

    Raises:
        ValueError: an argument is out of range.
    """
    if window < 1:
        raise ValueError(f"window must be at least 1, but is {window}")
    urls = [url] if isinstance(url, str) else list(url)
    if not urls:
        raise ValueError("url must name at least one endpoint")
    partitions = max(1, planned.num_blocks())
    box = outbox if outbox is not None else start_outbox(max_in_flight=partitions * window)
    settings = (box, [f"{one.rstrip('/')}{PATH}" for one in urls], window, cache_tokens, body)
    return planned.map_batches(
        Worker,
        fn_constructor_args=settings,
        batch_size=None,  # a whole partition: in order, and never joined with another
        batch_format="pyarrow",
        concurrency=partitions,
        num_cpus=num_cpus,
    )


class Worker:
    """Sends the rows of partitions, one after another; the arguments are those of `ask`."""

    def __init__(
        self, outbox: Any, urls: list[str], window: int, cache_tokens: int | None, body: Any
    ) -> None:
        self._outbox = outbox
        self._urls = urls
        self._window = window
        self._cache_tokens = cache_tokens
        self._body = body

    def __call__(self, batch: Any) -> Any:
        """Return a table of rows with their answers."""
        rows, answers = batch.to_pylist(), []
        waiting: list[tuple[Any, int]] = []
        for row in rows:
            while waiting and not self._has_room(waiting, row["tokens"]):
                answers.append(waiting.pop(0)[0])
                ray.wait(answers[-1:])
            waiting.append((self._send(row), row["tokens"]))
        told = ray.get([*answers, *(one for one, _ in waiting)])
        columns = [_columns(*answer) for answer in told]
        return type(batch).from_pylist(
            [{**row, **new} for row, new in zip(rows, columns, strict=True)]
        )

    def _has_room(self, waiting: list[tuple[Any, int]], tokens: int) -> bool:
        total = tokens + sum(known for _, known in waiting)
        is_small = self._cache_tokens is None or total <= self._cache_tokens
        return len(waiting) < self._window and is_small

    def _send(self, row: dict[str, Any]) -> Any:
        key, body = request_of(row, self._body)
        url = self._urls[row["partition"] % len(self._urls)]
        headers = {"X-Request-Id": row["request_id"]}
        return self._outbox.ask.remote(key, url, body, headers)


def _columns(status: int, text: str) -> dict[str, Any]:
    """Return the columns of an answer."""
    return {"status": status, "answer": _text_of(text) if status == 200 else None, "response": text}


def _text_of(response: str) -> str | None:
    try:
        content = json.loads(response)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        return None
    return content if isinstance(content, str) else None

"""Sends prompts to an engine as streams, and measures what comes back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from contextpilot.bench.prompts import Prompt
from contextpilot.engines.usage import UsageReader
from contextpilot.http.pooled import Upstream, UpstreamError
from contextpilot.http.response import Answer, BrokenAnswerError, Headers

PATH = "/v1/chat/completions"


@dataclass(frozen=True)
class Sent:
    """One measured request. Times are in seconds, planning included.

    Attributes:
        position: of the request in the run.
        prompt_tokens, cached_tokens: as the engine reports them; None where it does not.
        ttft_s: until the first token was there.
        total_s: until the answer was complete.
        plan_s: of these, planning.
        text: what the model wrote.
        error: why there is no answer; empty when there is one.
    """

    position: int
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    ttft_s: float = 0.0
    total_s: float = 0.0
    plan_s: float = 0.0
    text: str = field(default="", repr=False)
    error: str = ""


class Sender:
    """Sends prompts to one model. For use within one event loop.

    Args:
        headers: sent with every request, for example a key.
    """

    def __init__(
        self, upstream: Upstream, model: str, max_tokens: int, headers: Headers = ()
    ) -> None:
        self._upstream = upstream
        self._headers = [(b"content-type", b"application/json"), *headers]
        self._model = model
        self._max_tokens = max_tokens

    async def send(self, url: str, prompt: Prompt) -> Sent:
        """Send one prompt and read its stream to the end. Errors are told, not raised."""
        body = {
            "model": self._model,
            "messages": prompt.messages,
            "max_tokens": self._max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **prompt.members,
        }
        headers = [*self._headers, *((k.encode(), v.encode()) for k, v in prompt.headers.items())]
        data = json.dumps(body).encode()
        started = time.perf_counter() - prompt.plan_s
        try:
            async with self._upstream.open("POST", url + PATH, headers, data) as answer:
                sent = await _read(answer, prompt.position, started)
        except (UpstreamError, BrokenAnswerError, TimeoutError) as error:
            return Sent(prompt.position, error=str(error))
        return replace(sent, plan_s=prompt.plan_s)


async def _read(answer: Answer, position: int, started: float) -> Sent:
    if answer.status != 200:
        text = (await answer.read()).decode(errors="replace")
        return Sent(position, error=f"{answer.status}: {_message(text)}")
    usage, lines, texts, first = UsageReader(), _Lines(), [], 0.0
    async for chunk in answer.chunks():
        usage.feed(chunk)
        for event in lines.feed(chunk):
            text, is_token = _token(event)
            texts.append(text)
            first = first or (is_token and time.perf_counter() - started)
            if "error" in event:
                return Sent(position, error=_message(json.dumps(event)))
    total = time.perf_counter() - started
    if not first:
        return Sent(position, error="the stream ended without a token")
    prompt_tokens, cached_tokens = usage.result()
    return Sent(position, prompt_tokens, cached_tokens, first, total, text="".join(texts))


class _Lines:
    """Splits a stream of server-sent events into their JSON objects."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[dict[str, Any]]:
        """Take a piece of the body; yield the events that are complete now."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            data = line.strip().removeprefix(b"data:").strip()
            if data.startswith(b"{") and line.startswith(b"data:"):
                try:
                    event = json.loads(data)
                except ValueError:
                    continue
                if isinstance(event, dict):
                    yield event


def _token(event: dict[str, Any]) -> tuple[str, bool]:
    """Return what an event adds to the answer, and whether it shows that a token is there.

    A first token may be no whole character: then only the end of the answer shows it.
    """
    choices = event.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else {}
    delta = choice.get("delta") or {}
    text = delta.get("content") or ""
    has_token = text or delta.get("reasoning_content") or delta.get("reasoning")
    return str(text), bool(has_token or choice.get("finish_reason"))


def _message(text: str) -> str:
    """Return the message of an error body, or the body itself, shortened."""
    try:
        content = json.loads(text)
    except ValueError:
        content = text
    if isinstance(content, dict):
        inner = content.get("error", content)
        content = inner.get("message", inner) if isinstance(inner, dict) else inner
    return str(content)[:300]

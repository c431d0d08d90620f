"""How much of a chat's prompts was cached, as given and planned: python examples/measure.py

Without an engine, the cache is one that never evicts. With `--engine http://127.0.0.1:8000`, each
prompt is sent to a running engine, which reports what it had cached. The examples for other
projects use this module, too; on its own it takes the questions of `retrieval.py`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

import requests
from retrieval import QUESTIONS, retrieve

import contextpilot as cp


class Turn(NamedTuple):
    """One question of a chat, and the blocks that were retrieved for it, most relevant first."""

    question: str
    blocks: Sequence[Any]


class Measured(NamedTuple):
    """Share of prompt tokens that were cached, and the median time to the first token, if sent."""

    hit_ratio: float
    ttft_s: float | None = None


def engine_from_command_line(description: str) -> str | None:
    """Return the URL that was given with `--engine`, without `/v1`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--engine", metavar="URL", help="a running engine, http://127.0.0.1:8000")
    engine: str | None = parser.parse_args().engine
    return engine and engine.rstrip("/").removesuffix("/v1")


def model_of(base: str) -> str:
    """Return the model that an engine serves; base: its URL, ending in `/v1`."""
    models = requests.get(f"{base}/models", timeout=30).json().get("data")
    if not models:
        raise SystemExit(f"{base}/models names no model")
    return str(models[0]["id"])


def compare(turns: Sequence[Turn], engine: str | None, **options: Any) -> tuple[float, float]:
    """Replay a chat as given and planned; print and return both hit ratios."""
    known = "of the blocks' tokens" if engine is None else f"of the prompts' tokens, {engine}"
    print(f"{len(turns)} turns, {sum(len(turn.blocks) for turn in turns)} blocks; cached {known}")
    ratios = []
    for name, pilot in (
        ("in the order given", cp.ContextPilot(reorder=False)),
        ("planned", cp.ContextPilot(**options)),
    ):
        try:
            done = believed(pilot, turns) if engine is None else asked(engine, pilot, turns)
        except requests.RequestException as error:
            raise SystemExit(f"{engine} does not answer as an engine does: {error}") from None
        ttft = "" if done.ttft_s is None else f", first token after {done.ttft_s * 1000:.0f} ms"
        print(f"  {name:18} {done.hit_ratio:6.1%}{ttft}")
        ratios.append(done.hit_ratio)
    return ratios[0], ratios[1]


def believed(pilot: cp.ContextPilot, turns: Sequence[Turn]) -> Measured:
    """Plan each turn, and add up what the cache held of its blocks by then."""
    sent = [pilot.optimize(turn.blocks, turn.question) for turn in turns]
    return Measured(sum(one.live_tokens for one in sent) / sum(one.total_tokens for one in sent))


def asked(engine: str, pilot: cp.ContextPilot, turns: Sequence[Turn]) -> Measured:
    """Send each turn to an engine, and add up what it had cached by then."""
    base = engine.rstrip("/").removesuffix("/v1") + "/v1"
    model = model_of(base)
    head = f"You remember for user {uuid.uuid4()}."  # what other runs left does not count
    usages, times = [], []
    for turn in turns:
        messages = pilot.optimize(turn.blocks, turn.question, system_instruction=head)
        usage, seconds = stream(f"{base}/chat/completions", model, messages)
        usages.append(usage)
        times.append(seconds)
    return Measured(share_cached(usages), statistics.median(times))


def share_cached(usages: Sequence[dict[str, Any]]) -> float:
    """Return the share of the prompts' tokens that an engine had cached, from what it reported."""
    cached = sum((u.get("prompt_tokens_details") or {}).get("cached_tokens") or 0 for u in usages)
    return cached / sum(usage["prompt_tokens"] for usage in usages)


def stream(url: str, model: str, messages: Any) -> tuple[dict[str, Any], float]:
    """Return the usage that the engine reports, and the seconds until its first token."""
    body = {
        "model": model,
        "messages": messages,
        "max_tokens": 4,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    headers = {"X-Request-Id": messages.request_id}
    started, first, usage = time.perf_counter(), None, {}
    with requests.post(url, json=body, headers=headers, stream=True, timeout=300) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if event.get("choices") and first is None:
                first = time.perf_counter() - started
            usage = event.get("usage") or usage
    if first is None or "prompt_tokens" not in usage:
        raise SystemExit(f"{url} streamed no token, or no usage at the end")
    return usage, first


if __name__ == "__main__":
    compare(
        [Turn(question, retrieve(question)) for question in QUESTIONS],
        engine_from_command_line("How much of a chat's prompts was cached, planned and not."),
    )

"""LiteLLM sends planned messages: python examples/litellm_client.py

Needs `pip install litellm`. Asks questions over retrieved documents, as given and planned, and
prints what the engine reports of its cache. A simulated engine answers, or one that you name:

    python examples/litellm_client.py --engine http://127.0.0.1:8000
"""

from __future__ import annotations

import os
import uuid
from contextlib import nullcontext

from measure import engine_from_command_line, model_of
from pretend_engine import pretend_engine
from retrieval import QUESTIONS, prompt

import contextpilot as cp

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or it asks the network as it is imported
import litellm


def hit_ratio(url: str, pilot: cp.ContextPilot | None) -> float:
    """Ask every question; return the share of prompt tokens that the engine had in its cache."""
    prompt_tokens = cached_tokens = 0
    place = {"model": f"hosted_vllm/{model_of(url)}", "api_base": url, "api_key": "none"}
    head = {"role": "system", "content": f"Session {uuid.uuid4()}."}  # nothing of an earlier run
    for question in QUESTIONS:
        messages, headers = [head, {"role": "user", "content": prompt(question)}], {}
        if pilot:
            done = pilot.rewrite(messages)
            messages, headers = done.messages, {"X-Request-Id": done.request_id}
        answer = litellm.completion(messages=messages, extra_headers=headers, max_tokens=1, **place)
        details = answer.usage.prompt_tokens_details
        cached_tokens += details.cached_tokens or 0 if details else 0
        prompt_tokens += answer.usage.prompt_tokens
    return cached_tokens / prompt_tokens


def compare(engine: str | None = None) -> tuple[float, float]:
    """Ask both ways; print and return both hit ratios."""
    with nullcontext(f"{engine}/v1") if engine else pretend_engine() as url:
        given, planned = hit_ratio(url, None), hit_ratio(url, cp.ContextPilot())
    print(f"in the engine's cache: {given:.1%} as given, {planned:.1%} planned")
    return given, planned


if __name__ == "__main__":
    compare(engine_from_command_line("LiteLLM sends what was planned."))

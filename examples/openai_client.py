"""The OpenAI client plans by itself: python examples/openai_client.py

Asks questions over retrieved documents, first with the plain client, then with a wrapped one, and
prints what the engine reports of its cache. Without an address a simulated engine answers; with
one, give the model's name, too. vLLM reports cached tokens with --enable-prompt-tokens-details:

    python examples/openai_client.py http://127.0.0.1:8000/v1 my-model
"""

from __future__ import annotations

import sys
import uuid
from contextlib import AbstractContextManager, nullcontext

import openai
from pretend_engine import pretend_engine
from retrieval import QUESTIONS, prompt

import contextpilot.openai


def hit_ratio(client: openai.OpenAI, model: str) -> float:
    """Ask every question; return the share of prompt tokens that the engine had in its cache."""
    prompt_tokens = cached_tokens = 0
    head = {"role": "system", "content": f"Session {uuid.uuid4()}."}  # nothing of an earlier run
    for question in QUESTIONS:
        messages = [head, {"role": "user", "content": prompt(question)}]
        answer = client.chat.completions.create(model=model, messages=messages, max_tokens=1)
        details = answer.usage.prompt_tokens_details
        cached_tokens += details.cached_tokens or 0 if details else 0
        prompt_tokens += answer.usage.prompt_tokens
    return cached_tokens / prompt_tokens


def engine() -> AbstractContextManager[str]:
    """Return the engine that was named, or a simulated one with an empty cache."""
    return nullcontext(sys.argv[1]) if len(sys.argv) > 2 else pretend_engine()


def main() -> None:
    """Ask with both clients, each with an empty cache."""
    model = sys.argv[2] if len(sys.argv) > 2 else "m"
    with engine() as url, openai.OpenAI(base_url=url, api_key="none") as plain:
        given = hit_ratio(plain, model)
        client = contextpilot.openai.wrap(plain)  # the only line that is new
        planned = hit_ratio(client, model)
        print(f"in the engine's cache: {given:.1%} as given, {planned:.1%} planned")
        print(contextpilot.openai.totals(client))


if __name__ == "__main__":
    main()

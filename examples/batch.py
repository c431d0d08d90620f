"""A batch of questions, planned as a whole: python examples/batch.py

The order of execution matters as much as the order of the documents: in a small cache, only prompts
that follow soon still hit. Prints the order in which to send the questions, and how much of their
documents an unlimited cache holds by then, as given and planned.
"""

from __future__ import annotations

from retrieval import DOCUMENTS, QUESTIONS, hit_ratio, retrieve

import contextpilot as cp


def main() -> None:
    """Plan the batch, and print it in the order in which it is to be sent."""
    messages, order = cp.ContextPilot().optimize_batch(
        [retrieve(question) for question in QUESTIONS], list(QUESTIONS)
    )
    for position, prompt in zip(order, messages, strict=True):
        # answers[position] = client.chat.completions.create(model="...", messages=prompt)
        retrieved = retrieve(QUESTIONS[position])
        numbers = [DOCUMENTS.index(retrieved[rank]) for rank in prompt.order]
        print(QUESTIONS[position], "documents", *numbers)
    live = sum(prompt.live_tokens for prompt in messages)
    given = hit_ratio(cp.ContextPilot(reorder=False))
    planned = live / sum(prompt.total_tokens for prompt in messages)
    print(f"in the cache: {given:.1%} in the order given, {planned:.1%} planned")


if __name__ == "__main__":
    main()

"""A batch of questions, planned as a whole: python examples/batch.py

The order of execution matters as much as the order of the documents: in a small cache only what
follows at once still hits.
"""

from __future__ import annotations

from retrieval import DOCUMENTS, QUESTIONS, retrieve

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


if __name__ == "__main__":
    main()

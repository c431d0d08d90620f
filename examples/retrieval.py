"""Questions over retrieved documents, one at a time: python examples/retrieval.py

Retrieves docstrings of the standard library by the words they share with each question, plans them,
and prints how much of the prompts a prefix cache would have held, with and without planning.
"""

from __future__ import annotations

import inspect
import statistics

import contextpilot as cp

QUESTIONS = (
    "How are the mean and the median of data computed?",
    "How is the standard deviation of a population computed?",
    "What is the variance of a sample of data?",
    "When is the median of data the average of two values?",
    "What does the mean of a sample of data say of its population?",
    "How do I compute the population variance when the mean of the data is known?",
    "Which mean of the data suits a sample of rates or speeds?",
    "How do the median and the mode of data differ from the mean?",
    "How is the deviation of a sample computed when the mean is known?",
    "What is the median of grouped data of a population?",
)
DOCUMENTS = [
    f"statistics.{name}: {' '.join(text.split())}"
    for name in statistics.__all__
    if (text := inspect.getdoc(getattr(statistics, name)))
]


def retrieve(question: str, count: int = 8) -> list[str]:
    """Return the documents that share most words with the question, best first."""
    words = set(question.lower().rstrip("?").split())
    return sorted(DOCUMENTS, key=lambda text: -len(words & set(text.lower().split())))[:count]


def prompt(question: str) -> str:
    """Return the user message that any retrieval pipeline writes of a question."""
    documents = "\n".join(f"<document>{text}</document>" for text in retrieve(question))
    return f"Answer from the following documents.\n{documents}\n\nQuestion: {question}"


def hit_ratio(pilot: cp.ContextPilot) -> float:
    """Ask every question, and return the share of block tokens that were in the cache by then."""
    matched = total = 0
    for question in QUESTIONS:
        messages = pilot.optimize(retrieve(question), question)
        # client.chat.completions.create(model="...", messages=messages)
        told = pilot.explain(messages)
        matched, total = matched + told.matched_tokens, total + told.total_tokens
    return matched / total


if __name__ == "__main__":
    given, planned = hit_ratio(cp.ContextPilot(reorder=False)), hit_ratio(cp.ContextPilot())
    print(f"in the cache: {given:.1%} in the order given, {planned:.1%} planned")

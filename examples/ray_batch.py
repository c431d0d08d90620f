"""A batch over several Ray workers, planned as a whole: python examples/ray_batch.py

Asks questions over retrieved documents in the order given, then planned in two partitions, each
with its own simulated engine. Prints what the engines report of their caches.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any
from urllib.request import Request, urlopen

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
from pretend_engine import pretend_engine
from retrieval import DOCUMENTS, retrieve

import contextpilot as cp
from contextpilot.integrations.ray import ask, plan

PARTITIONS = 2


def requests() -> list[dict[str, Any]]:
    """Return two questions on each function of the standard library's statistics."""
    texts = [text.partition(": ")[2].split() for text in DOCUMENTS]
    questions = [f"What is {' '.join(words[:12])}?" for words in texts]
    questions += [f"Tell me of {' '.join(words[12:26])}." for words in texts]
    return [{"query": question, "contexts": retrieve(question)} for question in questions]


def hit_ratio(answers: Iterable[str]) -> float:
    """Return the share of prompt tokens that the engines had in their caches."""
    usages = [json.loads(answer)["usage"] for answer in answers]
    cached = sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in usages)
    return cached / sum(usage["prompt_tokens"] for usage in usages)


def as_given() -> float:
    """Ask one after another, in the order given, at one engine."""
    with pretend_engine() as url:
        answers = []
        for row in requests():
            messages = cp.optimize(row["contexts"], row["query"], reorder=False)
            body = json.dumps({"model": "m", "messages": messages}).encode()
            with urlopen(Request(f"{url}/chat/completions", body)) as answer:
                answers.append(answer.read())
    return hit_ratio(answers)


def planned() -> float:
    """Plan the batch, and have each partition asked at an engine of its own."""
    with ExitStack() as engines:
        urls = [engines.enter_context(pretend_engine()) for _ in range(PARTITIONS)]
        rows = ask(plan(ray.data.from_items(requests()), PARTITIONS), urls, model="m").take_all()
    return hit_ratio(row["response"] for row in rows)


def main() -> None:
    """Run both, the second on a small local cluster."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=10**8)
    ray.data.DataContext.get_current().enable_progress_bars = False
    print(f"in the engines' caches: {as_given():.1%} in the order given, {planned():.1%} planned")
    ray.shutdown()


if __name__ == "__main__":
    main()

"""A batch over several Ray workers, planned as a whole: python examples/ray_batch.py

Asks questions over retrieved documents in two partitions, once in the order given and once planned,
each partition at a pretended engine of its own, and prints what the engines say of their caches.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
from pretend_engine import pretend_engine
from retrieval import DOCUMENTS, retrieve

from contextpilot.integrations.ray import ask, plan

PARTITIONS = 2


def requests() -> list[dict[str, Any]]:
    """Return two questions on each function of the standard library's statistics."""
    texts = [text.partition(": ")[2].split() for text in DOCUMENTS]
    questions = [f"What is {' '.join(words[:12])}?" for words in texts]
    questions += [f"Tell me of {' '.join(words[12:26])}." for words in texts]
    return [{"query": question, "contexts": retrieve(question)} for question in questions]


def hit_ratio(dataset: Any, **options: Any) -> float:
    """Plan and ask; return the share of prompt tokens that the engines had in their caches."""
    with ExitStack() as engines:
        urls = [engines.enter_context(pretend_engine()) for _ in range(PARTITIONS)]
        answers = ask(plan(dataset, PARTITIONS, **options), urls, model="m").take_all()
    usages = [json.loads(row["response"])["usage"] for row in answers]
    cached = sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in usages)
    return cached / sum(usage["prompt_tokens"] for usage in usages)


def main() -> None:
    """Run both on a small local cluster."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=10**8)
    ray.data.DataContext.get_current().enable_progress_bars = False
    dataset = ray.data.from_items(requests())
    given, planned = hit_ratio(dataset, reorder=False), hit_ratio(dataset)
    print(f"in the engines' caches: {given:.1%} in the order given, {planned:.1%} planned")
    ray.shutdown()


if __name__ == "__main__":
    main()

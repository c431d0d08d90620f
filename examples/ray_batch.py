"""A batch over several Ray workers, planned as a whole: python examples/ray_batch.py

Asks questions over retrieved documents in the order given, and then planned, in two partitions,
each at a pretended engine of its own; prints what the engines say of their caches. With
`--engine http://127.0.0.1:8000` both partitions go to a running one.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any
from urllib.request import Request, urlopen

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
from measure import engine_from_command_line, model_of, share_cached
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


def hit_ratio(answers: Iterable[str | bytes]) -> float:
    """Return the share of prompt tokens that the engines had in their caches."""
    return share_cached([json.loads(answer)["usage"] for answer in answers])


def as_given(engine: str | None = None) -> float:
    """Ask one after another, in the order given, at one engine."""
    with ExitStack() as engines:
        url = f"{engine}/v1" if engine else engines.enter_context(pretend_engine())
        model, head, answers = model_of(url), session(), []
        for row in requests():
            messages = cp.optimize(
                row["contexts"], row["query"], system_instruction=head, reorder=False
            )
            body = {"model": model, "messages": messages, "max_tokens": 1}
            kind = {"Content-Type": "application/json"}
            with urlopen(
                Request(f"{url}/chat/completions", json.dumps(body).encode(), kind)
            ) as told:
                answers.append(told.read())
    return hit_ratio(answers)


def planned(engine: str | None = None) -> float:
    """Plan the batch, and have each partition asked at an engine of its own."""
    with ExitStack() as engines:
        own = [engines.enter_context(pretend_engine()) for _ in range(PARTITIONS) if not engine]
        urls = own or [f"{engine}/v1"]
        dataset = ray.data.from_items(requests())
        batch = plan(dataset, PARTITIONS, system_instruction=session())
        rows = ask(batch, urls, model=model_of(urls[0]), max_tokens=1).take_all()
    return hit_ratio(row["response"] for row in rows)


def session() -> str:
    """Return how the prompts of one run begin, so that what others left does not count."""
    return f"Answer from the documents. Session {uuid.uuid4()}."


def main() -> None:
    """Run both, the second on a small local cluster."""
    engine = engine_from_command_line("A batch over several Ray workers, planned as a whole.")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=10**8)
    ray.data.DataContext.get_current().enable_progress_bars = False
    given, whole = as_given(engine), planned(engine)
    print(f"in the engines' caches: {given:.1%} in the order given, {whole:.1%} planned")
    ray.shutdown()


if __name__ == "__main__":
    main()

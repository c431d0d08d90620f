"""What the index believes of real llama-server slots is what the next request finds there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from llama_drive import Rig, common, rig

from contextpilot.commands.corpus import passages, retrieve
from contextpilot.commands.questions import questions

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(300)]

NUM_REQUESTS = 300
NUM_PASSAGES = 40
NUM_BLOCKS = 6
BLOCK_CHARS = 60


@pytest.fixture(scope="module", autouse=True)
def _needs_llamacpp(engine: Callable[[str], Any]) -> None:
    engine("llamacpp")


def workload(count: int) -> list[tuple[list[str], str]]:
    """Return the demo's questions, each with the beginnings of the passages that it retrieves."""
    texts, asked = passages()[:NUM_PASSAGES], list(questions())
    found = retrieve(texts, asked)
    requests = [
        ([texts[i][:BLOCK_CHARS] for i in positions[:NUM_BLOCKS]], query)
        for query, positions in zip(asked, found, strict=True)
        if len(positions) > 1
    ]
    return requests[:count]


def expected(made: Rig, tokens: dict[str, list[int]], name: str) -> int:
    """Return what a request should find in its slot by what the index believed."""
    tokens[name] = made.tokens(name)
    shared = (min(n, common(tokens[r], tokens[name])) for r, n in made.seen[name].held)
    return min(max(shared, default=0), len(tokens[name]) - 1)


@pytest.mark.parametrize("num_slots", [2, 4])
def test_belief_of_each_slot_is_what_the_next_request_finds(num_slots: int) -> None:
    wrong: list[tuple[str, int, int]] = []
    tokens: dict[str, list[int]] = {}
    slots = set()
    with rig(["--parallel", str(num_slots), "--cache-ram", "0"]) as made:
        for contexts, query in workload(NUM_REQUESTS):
            reply = made.ask(contexts, query)
            believed = expected(made, tokens, reply.request_id)
            slots.add(made.seen[reply.request_id].slot)
            if abs(believed - reply.cached) > 1:
                wrong.append((reply.request_id, believed, reply.cached))
            made.settle()
        assert made.state["num_matched"] == NUM_REQUESTS
        assert made.state["num_unmatched"] == 0
        assert made.state["num_gaps"] == 0
    assert slots == set(range(num_slots))
    assert not wrong

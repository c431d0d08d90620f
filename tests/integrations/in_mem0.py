"""What Mem0's users see; run by test_stacks.py where Mem0 is."""

from __future__ import annotations

import asyncio
import sys
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from guides import run_blocks

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

import mem0_chat
from mem0 import AsyncMemory, Memory

import contextpilot as cp
from contextpilot.integrations.mem0 import memory_blocks, order_memories

FACTS = [
    "Maya lives in Lyon, and her flat is near the river.",
    "Maya has a dog called Biscuit, who likes the river.",
    "Maya and Jonas play the cello near the flat.",
    "Jonas moved to Porto for a new job.",
]
RELATION = {"source": "maya", "relationship": "lives_in", "destination": "lyon"}


@pytest.fixture
def memory() -> Memory:
    made = mem0_chat.local_memory()
    for fact in FACTS:
        made.add(fact, user_id=mem0_chat.USER, infer=False, metadata={"kind": "fact"})
    yield made
    made.vector_store.client.close()


def test_a_search_goes_into_optimize_and_leads_back_to_its_rows(memory: Memory) -> None:
    pilot = cp.ContextPilot(displacement_cost=0, min_gain_tokens=1)
    for question in ("Where does Maya live near the river?", "Who moved near the cello of Jonas?"):
        found = mem0_chat.search(memory, question)
        ids = [row["id"] for row in found["results"]]
        blocks = memory_blocks(found)
        messages = pilot.optimize(blocks, question)
        assert len(blocks) == len(FACTS)
        assert [block["id"] for block in blocks] == ids
        assert [block["score"] for block in blocks] == [row["score"] for row in found["results"]]
        assert all(block["metadata"]["kind"] == "fact" for block in blocks)
        for place, rank in enumerate(messages.order, 1):
            assert f"[{place}] {blocks[rank]['memory']}\n" in messages[-1]["content"]
        assert not any(row in messages[-1]["content"] for row in ids)
    assert messages.order != tuple(range(len(FACTS)))  # the second joined the first


def test_everything_that_is_remembered(memory: Memory) -> None:
    user = {"user_id": mem0_chat.USER}
    by_itself = "user_id" in signature(memory.get_all).parameters
    found = memory.get_all(**user) if by_itself else memory.get_all(filters=user)
    assert sorted(block["memory"] for block in memory_blocks(found)) == sorted(FACTS)


def test_the_asynchronous_memory() -> None:
    async def asked() -> tuple[list[dict[str, Any]], Any]:
        made = AsyncMemory.from_config(mem0_chat.local_config())
        memory = await made if asyncio.iscoroutine(made) else made
        memory.embedding_model = mem0_chat.HashingEmbedder()
        for fact in FACTS:
            await memory.add(fact, user_id=mem0_chat.USER, infer=False)
        waiting = mem0_chat.search(memory, "Where does Maya live?")
        with pytest.raises(TypeError, match="await what AsyncMemory returns"):
            memory_blocks(waiting)
        found = await waiting
        memory.vector_store.client.close()
        return memory_blocks(found), order_memories(found, cp.ContextPilot())

    blocks, ordered = asyncio.run(asked())
    assert sorted(block["memory"] for block in blocks) == sorted(FACTS)
    assert [row["original_rank"] for row in ordered["results"]] == [1, 2, 3, 4]


def test_an_order_for_prompts_of_ones_own(memory: Memory) -> None:
    pilot = cp.ContextPilot(displacement_cost=0, min_gain_tokens=1)
    first, second = (
        {**mem0_chat.search(memory, question), "relations": [RELATION]}
        for question in ("Where does Maya live near the river?", "Who plays the cello of Jonas?")
    )
    order_memories(first, pilot)
    given = [dict(row) for row in second["results"]]
    planned = order_memories(second, pilot)
    assert second["results"] == given
    assert planned["relations"] == [RELATION]
    assert [given[row["original_rank"] - 1]["id"] for row in planned["results"]] == [
        row["id"] for row in planned["results"]
    ]
    assert planned["results"][0]["memory"] == first["results"][0]["memory"]
    listed = order_memories(second["results"], pilot)  # as Mem0's first API returned
    assert sorted(row["id"] for row in listed) == sorted(row["id"] for row in given)
    assert order_memories({"results": []}, pilot) == {"results": []}


def test_the_chat_hits_more_than_twice_as_often() -> None:
    given, planned = mem0_chat.compare(mem0_chat.chat(num_memories=160, num_turns=20), None)
    assert planned > 2 * given > 0


def test_the_guides_code_runs() -> None:
    run_blocks("mem0.md")

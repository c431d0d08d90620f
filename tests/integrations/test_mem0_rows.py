"""Rows of Mem0 without Mem0: relations, forms of writing, and what is no row."""

from __future__ import annotations

from typing import Any

import pytest

import contextpilot as cp
from contextpilot.integrations.mem0 import memory_blocks, order_memories

ROW = {"id": "m1", "memory": "Maya lives in Lyon.", "score": 0.9, "created_at": "2026-03-01"}
RELATION = {"source": "maya", "relationship": "lives_in", "destination": "lyon"}
LISTED = {"source": "maya", "relationship": "has", "target": "dog"}


def test_relations_follow_the_memories_and_are_kept() -> None:
    blocks = memory_blocks({"results": [ROW], "relations": [RELATION, LISTED]})
    assert [block.get("relation") for block in blocks] == [None, RELATION, LISTED]
    written = cp.ContextPilot().optimize(blocks, "Where?")[-1]["content"]
    assert "[2] maya -- lives_in -- lyon\n" in written
    assert "[3] maya -- has -- dog\n" in written
    assert memory_blocks({"results": [ROW], "relations": None}) == [ROW]
    assert memory_blocks([ROW]) == [ROW]


def test_a_memory_is_written_as_the_caller_wants_it() -> None:
    (block,) = memory_blocks([ROW], lambda row: f"{row['created_at']}: {row['memory']}")
    written = cp.ContextPilot().optimize([block], "Where?")[-1]["content"]
    assert "[1] 2026-03-01: Maya lives in Lyon.\n" in written
    assert block["id"] == "m1"
    assert "text" not in ROW


def test_without_a_pilot_the_process_wide_one_plans() -> None:
    assert order_memories([ROW]) == [{**ROW, "original_rank": 1}]


@pytest.mark.parametrize(
    ("found", "named"),
    [
        ("Maya", "not str"),
        ({"memories": [ROW]}, "'results'"),
        ({"results": {"id": "m1"}}, "'results'"),
        ([ROW, {"id": "m2"}], r"results\[1\] must be a memory"),
        ({"results": [{"id": "m", "memory": None}]}, r"results\[0\] must be a memory"),
        ({"results": [ROW], "relations": ["maya"]}, "relations must hold dictionaries"),
        ({"results": [ROW], "relations": [{"source": "maya"}]}, "a relation must have texts"),
    ],
)
def test_what_is_no_search_result_is_an_error_that_names_it(found: Any, named: str) -> None:
    with pytest.raises(TypeError, match=named):
        memory_blocks(found)

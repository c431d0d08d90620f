"""Shapes of PageIndex without PageIndex: chosen nodes, labels, and what is no tree."""

from __future__ import annotations

import json
from typing import Any

import pytest

import contextpilot as cp
from contextpilot.integrations.pageindex import page_blocks

CLOUD = {"node_id": "0002", "title": "Cloud", "start_index": 3, "end_index": 4, "text": "It grew."}
TREE = {
    "doc_name": "report",
    "structure": [
        {
            "node_id": "0001",
            "title": "Segments",
            "start_index": 2,
            "end_index": 9,
            "nodes": [CLOUD],
        },
        {"node_id": "0003", "title": "Risks", "start_index": 9, "end_index": 9, "summary": "Few."},
    ],
}


def test_nodes_say_where_they_belong_and_headings_stand_above_them() -> None:
    blocks = page_blocks(TREE)
    assert [(block.id, block.text) for block in blocks] == [
        ("report#0002", "report > Segments > Cloud, pages 3 to 4\nIt grew."),
        ("report#0003", "report > Risks, page 9\nFew."),
    ]
    assert blocks[0].source is CLOUD


def test_the_nodes_that_a_search_chose_go_into_optimize_in_its_order() -> None:
    blocks = page_blocks(TREE, nodes=["0003", "0002"])
    messages = cp.ContextPilot().optimize(blocks, "How is Cloud?")
    assert [blocks[rank].id for rank in messages.order] == ["report#0003", "report#0002"]
    assert messages[-1]["content"].startswith("[1] report > Risks, page 9\nFew.\n")
    (cited,) = messages.citations("It grew [2].")
    assert cited.block.source is CLOUD


def test_equal_nodes_of_two_documents_have_two_ids() -> None:
    ids = {page_blocks(TREE, name)[0].id for name in ("2023.pdf", "2024.pdf")}
    assert ids == {"2023.pdf#0002", "2024.pdf#0002"}


@pytest.mark.parametrize(
    ("found", "error", "named"),
    [
        ([CLOUD], ValueError, "document is missing"),
        ("no JSON", TypeError, "not the JSON"),
        (json.dumps({"error": "no such document"}), ValueError, "no such document"),
        ({"doc_id": "d", "name": "report.pdf"}, TypeError, "found must be a tree"),
        ({"doc_id": "d", "result": ["text"]}, TypeError, "found must be a tree"),
        ({"doc_id": "d", "result": [{"title": "A"}]}, TypeError, "neither node_id nor page"),
        ({"doc_id": "d", "result": [{"node_id": "1", "title": "A"}]}, ValueError, "node 1 of d"),
    ],
)
def test_what_holds_no_nodes_is_an_error_that_names_it(
    found: Any, error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        page_blocks(found)


def test_a_node_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="nodes names '0009', which report does not hold"):
        page_blocks(TREE, nodes=["0009"])

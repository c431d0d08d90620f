"""The text of an object under whatever name it stands, and what is an error instead."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import contextpilot as cp
from contextpilot.fields import ID_FIELDS, IMAGE_FIELDS, TEXT_FIELDS, id_of, text_of

TEXT = "Alice lives in Lyon."


@pytest.mark.parametrize("field", [field for field in TEXT_FIELDS if field != "get_content"])
@pytest.mark.parametrize("identity", ID_FIELDS)
def test_the_text_is_written_and_never_the_id(field: str, identity: str) -> None:
    row = {identity: "number-1", "score": 0.9, field: TEXT}
    written = cp.ContextPilot().optimize([row], "q?")[-1]["content"]
    assert TEXT in written
    assert "number-1" not in written
    assert text_of(SimpleNamespace(**row), "row") == TEXT
    assert id_of(row) == "number-1"


@pytest.mark.parametrize(
    "row",
    [
        {"node": {"id_": "n", "text": TEXT}, "score": 0.5},
        {"id": 5, "payload": {"data": TEXT, "user_id": "u"}, "score": 0.3},
        SimpleNamespace(id=5, payload={"page_content": TEXT}, score=0.3, vector=None),
        {"id": "p", "score": 0.5, "metadata": {"text": TEXT}},
        {"_id": "e", "_source": {"body": TEXT}},
        {"index": 2, "document": {"text": TEXT}, "relevance_score": 0.4},
        {"file_id": "f", "content": [{"type": "text", "text": TEXT}]},
        {"page_index": 3, "markdown": TEXT},
        {"node_id": "0001", "title": "Cloud", "summary": TEXT, "nodes": []},
        SimpleNamespace(uuid="w", properties={"content": TEXT}),
    ],
)
def test_rows_of_stores_and_rerankers(row: Any) -> None:
    assert text_of(row, "row") == TEXT


def test_several_text_parts_are_one_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}]
    assert text_of({"content": parts}, "row") == "a\nb"


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"id": "x", "title": "t"}, r"contexts\[0\] has no text \(only the id 'id'"),
        ({"id": "x", "metadata": {"summary": "about"}}, r"contexts\[0\] has no text"),
        ({"id": "x", "content": [{"type": "image"}]}, r"contexts\[0\].content\[0\]"),
        ({"text": TEXT, "content": None, "image_url": "u"}, r"contexts\[0\].image_url holds"),
        ({"id": "i", "type": "image_url"}, r"contexts\[0\].type holds"),
        ({"id": 1, "payload": {"text": TEXT, "image": "b"}}, r"contexts\[0\].payload.image"),
        (SimpleNamespace(id="o"), r"contexts\[0\] has no text"),
    ],
)
def test_what_is_no_text_is_an_error_that_names_the_field(row: Any, named: str) -> None:
    with pytest.raises(TypeError, match=named):
        cp.ContextPilot().optimize([row], "q?")


@pytest.mark.parametrize("field", IMAGE_FIELDS)
def test_an_image_next_to_a_text_is_never_dropped(field: str) -> None:
    assert text_of({"text": TEXT, field: None}, "row") == TEXT
    assert text_of({"text": TEXT, field: []}, "row") == TEXT
    with pytest.raises(TypeError, match=field):
        text_of({"text": TEXT, field: "https://pictures/1.png"}, "row")

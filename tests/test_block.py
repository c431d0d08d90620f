"""Identity, text and weight of whatever callers pass as blocks."""

from __future__ import annotations

import enum
from collections import UserDict
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextpilot.block import (
    OVERHEAD_TOKENS,
    UNKNOWN_TOKENS,
    BlockReader,
    block_id,
    content_key,
    estimate_tokens,
    unique,
)

any_text = st.text(st.characters(), max_size=40)
"""Every code point, lone surrogates among them."""


@given(st.lists(any_text, max_size=8))
def test_strings_are_known_by_their_content(texts: list[str]) -> None:
    blocks = BlockReader().read(texts)
    assert [block.text for block in blocks] == texts
    assert [block.value for block in blocks] == texts
    assert len({block.key for block in blocks}) == len(set(texts))
    assert [block.key for block in BlockReader().read(texts[::-1])][::-1] == [
        block.key for block in blocks
    ]
    assert all(block.weight == estimate_tokens(block.text) >= 1 for block in blocks)


def test_keys_are_the_same_on_every_machine() -> None:
    assert content_key("").hex() == "e3b0c44298fc1c149afbf4c8996fb924"
    assert content_key("\ud800") != content_key("\ud801") != content_key("?")


@dataclass
class LangChainDocument:
    """Duck type of langchain_core.documents.Document."""

    page_content: str
    metadata: dict[str, Any]
    id: str | None = None


class LlamaIndexNode:
    """Duck type of llama_index.core.schema.TextNode."""

    def __init__(self, text: str) -> None:
        self.id_ = "n1"
        self._text = text

    def get_content(self, metadata_mode: str = "none") -> str:
        return self._text

    @property
    def node_id(self) -> str:
        return self.id_


class ImageNodeWithScore:
    """Duck type of a llama_index NodeWithScore, whose `text` raises for some nodes."""

    def __init__(self, node: LlamaIndexNode) -> None:
        self.node = node

    @property
    def text(self) -> str:
        raise ValueError("Node must be a TextNode to get text.")


class Text(str):
    """A string of a caller's own kind."""


class Named(str, enum.Enum):
    HELLO = "hello"


@pytest.mark.parametrize(
    "value",
    [
        {"text": "hello"},
        {"content": "hello", "id": 7},
        {"page_content": "hello"},
        UserDict(text="hello"),
        {"text": None, "content": "hello"},
        {"text": "hello", "node": "n1"},
        SimpleNamespace(text="hello", id=3),
        LangChainDocument("hello", {"source": "a"}),
        LlamaIndexNode("hello"),
        ImageNodeWithScore(LlamaIndexNode("hello")),
        {"node": {"text": "hello"}, "score": 0.5},
        Text("hello"),
        Named.HELLO,
    ],
)
def test_objects_with_a_text_are_known_by_it(value: Any) -> None:
    (block,) = BlockReader().read([value])
    assert block.value is value
    assert block[:3] == BlockReader().read(["hello"])[0][:3]
    assert type(block.text) is str


def test_an_empty_text_is_a_text() -> None:
    (block,) = BlockReader().read([{"text": "", "id": 1}])
    assert block.key == content_key("")


def test_bare_ids_are_known_by_themselves_where_only_an_order_is_asked_for() -> None:
    bare: list[Any] = [{"id": "1"}, {"doc_id": 1}, {"node_id": 1}]
    by_name, by_number, again = BlockReader().read(bare, bare_ids=True)
    assert by_name.key != by_number.key == again.key
    assert by_name.key not in (1, "1", content_key("1"))
    assert by_name.weight == UNKNOWN_TOKENS
    with pytest.raises(TypeError, match="only the id 'id'"):  # nothing is dropped in silence
        BlockReader().read([{"id": "1"}])
    with pytest.raises(TypeError, match="its fields are id, words"):
        BlockReader().read([{"id": "1", "words": "a"}], bare_ids=True)


def test_integers_are_known_by_their_value_and_differ_from_equal_strings() -> None:
    reader = BlockReader()
    plain, numpy_ints = reader.read([1, 2, 2**70]), reader.read(list(np.array([1, 2])))
    assert [block.key for block in plain[:2]] == [block.key for block in numpy_ints]
    assert type(numpy_ints[0].key) is int
    assert plain[0].key != reader.read(["1"])[0].key
    assert [block.text for block in plain] == ["1", "2", str(2**70)]
    assert reader.read([1, np.int64(1)])[1].key == 1


@pytest.mark.parametrize(
    ("context", "named"),
    [
        (None, "contexts"),
        ("text", "contexts"),
        (b"text", "contexts"),
        ({"text": "a"}, "contexts"),
        (3, "contexts"),
        ({"a", "b"}, "contexts"),
        (iter(["a"]), "contexts"),
        (["a", 1], "contexts mixes integers and strings"),
        (["a", {"text": "b"}], "contexts mixes objects and strings"),
        ([1, {"id": 2}], "contexts mixes integers and objects"),
        (["a", None], r"contexts\[1\]"),
        ([True], r"contexts\[0\]"),
        ([1, False], r"contexts\[1\]"),
        ([np.bool_(True)], r"contexts\[0\]"),
        ([1.0], r"contexts\[0\]"),
        ([np.float64(1)], r"contexts\[0\]"),
        ([b"a"], r"contexts\[0\]"),
        ([["a"]], r"contexts\[0\]"),
        ([("a",)], r"contexts\[0\]"),
        ([{}], r"contexts\[0\]"),
        ([{"text": 5}], r"contexts\[0\]"),
        ([{"text": ["a"], "id": 1}], r"contexts\[0\]"),
        ([object()], r"contexts\[0\]"),
        ([np.array([1, 2])], r"contexts\[0\]"),
    ],
)
def test_anything_else_is_an_error_that_names_it(context: Any, named: str) -> None:
    with pytest.raises(TypeError, match=named):
        BlockReader().read(context)


def test_an_answer_around_the_list_is_an_error_that_names_the_list() -> None:
    rows = [{"id": "m1", "memory": "Maya lives in Lyon."}]
    with pytest.raises(TypeError, match="not dict: pass its 'results'"):
        BlockReader().read({"results": rows, "relations": []})
    with pytest.raises(TypeError, match=r"not dict$"):
        BlockReader().read({"ids": ["m1"], "documents": ["Maya lives in Lyon."]})


@pytest.mark.parametrize("batch", [None, "ab", {"a": 1}, 5])
def test_a_batch_is_a_list(batch: Any) -> None:
    with pytest.raises(TypeError, match="all_contexts"):
        BlockReader().read_batch(batch)


def test_a_wrong_context_of_a_batch_is_named() -> None:
    with pytest.raises(TypeError, match=r"all_contexts\[1\]"):
        BlockReader().read_batch([["a"], "b"])
    with pytest.raises(TypeError, match=r"all_contexts\[1\]\[0\]"):
        BlockReader().read_batch([["a"], [None]])


def test_a_tokenizer_gives_the_weight() -> None:
    reader = BlockReader(lambda text: len(text.split()))
    blocks = reader.read(["one two three", ""])
    assert [block.weight - OVERHEAD_TOKENS for block in blocks] == [3, 1]


def test_a_tokenizer_is_asked_once_per_text() -> None:
    asked: list[str] = []
    reader = BlockReader(lambda text: asked.append(text) or 5)
    for _ in range(3):
        reader.read(["a", "b", "a"])
    assert sorted(asked) == ["a", "b"]


@pytest.mark.parametrize("tokenizer", [5, "gpt2"])
def test_a_tokenizer_is_a_callable(tokenizer: Any) -> None:
    with pytest.raises(TypeError, match="tokenizer"):
        BlockReader(tokenizer)


def test_a_tokenizer_that_returns_no_number_is_named() -> None:
    with pytest.raises(TypeError, match="tokenizer"):
        BlockReader(lambda text: [1, 2]).read(["a"])  # type: ignore[arg-type, return-value]


def test_the_memory_for_texts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contextpilot.block._MEMO_CHARS", 10_000)
    reader = BlockReader()
    for number in range(1000):
        reader.read([f"{number:4}"])
        assert 1 <= len(reader._memo) < 100


def test_a_reader_may_keep_no_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contextpilot.block._MAX_WEIGHTS", 10)
    weighed: list[str] = []
    kept = BlockReader(lambda text: weighed.append(text) or len(text), keeps_texts=False)
    for _ in range(2):
        assert kept.read(["a text", "b"]) == BlockReader(len).read(["a text", "b"])
    assert weighed == ["a text", "b"]
    for number in range(100):
        kept.read([f"{number:4}"])
    assert not kept._memo
    assert len(kept._weights) <= 10


def test_block_id_is_the_callers_own() -> None:
    values = ["a", 5, {"id": "x"}, SimpleNamespace(doc_id=2), {"text": "a"}, LlamaIndexNode("a")]
    assert [block_id(value) for value in values] == [None, 5, "x", 2, None, "n1"]


def test_unique_keeps_the_first_copy() -> None:
    blocks = BlockReader().read(["a", "b", "a"])
    assert [block.text for block in unique(blocks)] == ["a", "b"]

"""Batches from iterators and files: the plans of the same batch in memory, without its texts."""

from __future__ import annotations

import gzip
import json
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from contextpilot import stream
from contextpilot.block import BlockReader
from contextpilot.index import ContextIndex
from contextpilot.options import Options
from contextpilot.plan.batch import BatchPlanner
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import OnlinePlanner
from contextpilot.plan.support import SupportWindow
from contextpilot.stream import jsonl_contexts, parquet_contexts, plan_stream


def some_contexts(count: int = 60) -> list[list[str]]:
    draw = random.Random(4)
    texts = [f"Document {i}. " + "words of a passage " * draw.randint(3, 60) for i in range(40)]
    return [draw.sample(texts, 6) for _ in range(count)]


def steps_in_memory(contexts: list[list[str]], bounds: Bounds) -> list[tuple[int, Any]]:
    blocks = BlockReader().read_batch(contexts)
    together = BatchPlanner(OnlinePlanner(ContextIndex(), SupportWindow()))
    groups = together.prepare(blocks, bounds)
    return [(at, plan.order) for at, plan in together.walk(blocks, groups, bounds)]


@pytest.mark.parametrize(
    "options", [{}, {"displacement_cost": 0}, {"pin_first": 1}, {"reorder": False}], ids=str
)
def test_an_iterator_is_planned_as_the_same_batch_in_memory(options: dict[str, Any]) -> None:
    contexts = some_contexts()
    steps = list(plan_stream(iter(contexts), **options))
    assert steps == steps_in_memory(contexts, Options().override(**options).bounds)
    assert sorted(step.position for step in steps) == list(range(60))
    moved = sum(order != tuple(range(6)) for _, order in steps)
    assert (moved > 0) == (options != {"reorder": False})


def test_texts_are_not_kept() -> None:
    """A hundred megabytes of texts pass by; much less than that stays."""

    def passages() -> Iterator[list[str]]:
        for i in range(2_000):
            yield [f"{(i * 7 + j) % 1_000} " + "x" * 25_000 for j in range(2)]

    tracemalloc.start()
    try:
        steps = list(plan_stream(passages(), tokenizer=len))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(steps) == 2_000
    assert peak < 80e6


def test_wrong_contexts_are_named() -> None:
    with pytest.raises(TypeError, match=r"iterable of contexts.*NoneType"):
        list(plan_stream(None))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"contexts\[1\]"):
        list(plan_stream([["a"], "b"]))
    with pytest.raises(ValueError, match="pin_first"):
        list(plan_stream([["a"]], pin_first=-1))
    assert list(plan_stream([])) == []
    assert list(plan_stream([["a", "b"]])) == [(0, (0, 1))]


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
def test_json_lines_are_read_one_by_one(tmp_path: Path, zipped: bool) -> None:
    contexts = some_contexts(12)
    lines = "\n".join(json.dumps({"query": "?", "contexts": own}) for own in contexts) + "\n\n"
    path = tmp_path / "requests.jsonl"
    path.write_bytes(gzip.compress(lines.encode()) if zipped else lines.encode())
    assert list(jsonl_contexts(path)) == contexts
    assert list(plan_stream(jsonl_contexts(path))) == list(plan_stream(contexts))


@pytest.mark.parametrize(
    ("line", "told"),
    [("{", "line 2 is not JSON"), ('{"docs": []}', "contexts must be a list"), ("[1]", "line 2")],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path: Path, line: str, told: str) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text('{"contexts": ["a"]}\n' + line + "\n")
    with pytest.raises(ValueError, match=told):
        list(jsonl_contexts(path))


def test_parquet_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contextpilot.stream._ROWS_AT_ONCE", 5)
    contexts = some_contexts(12)
    path = tmp_path / "requests.parquet"
    table = pyarrow.table({"query": ["?"] * 12, "contexts": contexts})
    parquet.write_table(table, path)
    assert list(parquet_contexts(path)) == contexts
    with pytest.raises(ValueError, match="its columns are query, contexts"):
        list(parquet_contexts(path, "documents"))
    with pytest.raises(ValueError, match="row 0: query must be a list"):
        list(parquet_contexts(path, "query"))


def test_without_pyarrow_the_fix_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ImportError, match="pip install pyarrow"):
        next(parquet_contexts(tmp_path / "requests.parquet"))


def test_a_line_without_end_is_no_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_MAX_LINE_BYTES", 30)
    path = tmp_path / "log.jsonl"
    path.write_text('{"contexts": ["a"]}\n{"contexts": ["' + "x" * 30)
    read = jsonl_contexts(path)
    assert next(read) == ["a"]
    with pytest.raises(ValueError, match="line 2 is longer"):
        next(read)

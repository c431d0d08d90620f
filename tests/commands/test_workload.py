"""Workload files: every layout that is read, and what is said of those that are not."""

from __future__ import annotations

import gzip
import io
import json
import sys

import pyarrow
import pytest
from pyarrow import parquet

from contextpilot.commands.workload import EXPECTED, read_workload, stream_contexts
from contextpilot.errors import CommandError

LINES = (
    '{"query": "who?", "contexts": ["first text", "second text"]}\n\n{"contexts": ["first text"]}\n'
)
DOCUMENT = {
    "docs": ["first text", "second text"],
    "requests": [{"query": "who?", "contexts": [0, 1]}, {"contexts": [0]}],
}


def texts(workload):
    return [[block.text for block in context] for context in workload.contexts]


READ = [["first text", "second text"], ["first text"]]


@pytest.mark.parametrize("name", ["w.jsonl", "w.ndjson", "w.json", "w.txt", "w"])
def test_json_lines(tmp_path, name):
    path = tmp_path / name
    path.write_text(LINES)
    workload = read_workload(str(path))
    assert (workload.name, workload.queries) == (name, ["who?", ""])
    assert texts(workload) == READ


@pytest.mark.parametrize("name", ["w.json", "w.txt", "w"])
@pytest.mark.parametrize("spaces", [None, 2])
def test_one_document(tmp_path, name, spaces):
    path = tmp_path / name
    path.write_text(json.dumps(DOCUMENT, indent=spaces))
    workload = read_workload(str(path))
    assert workload.queries == ["who?", ""]
    assert texts(workload) == READ
    assert workload.contexts[0][0].key == workload.contexts[1][0].key


@pytest.mark.parametrize("name", ["w.json.gz", "w.jsonl.gz", "w.jsonl", "w.gz"])
def test_gzip_is_known_by_its_content(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(LINES.encode()))
    assert texts(read_workload(str(path))) == READ


@pytest.mark.parametrize(
    "data", [LINES.encode(), gzip.compress(json.dumps(DOCUMENT).encode(), mtime=0)]
)
def test_standard_input(monkeypatch, run, data):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    found = run("simulate", "-", "--json").json()
    assert (found["workload"], found["requests"], found["blocks"]) == ("standard input", 2, 2)


def test_one_request_is_a_workload(tmp_path):
    path = tmp_path / "w.json"
    path.write_text('{"contexts": [7, 8]}')
    assert [[block.key for block in c] for c in read_workload(str(path)).contexts] == [[7, 8]]


def test_a_byte_order_mark_line_ends_and_unicode(tmp_path):
    path = tmp_path / "w.jsonl"
    path.write_bytes(
        b"\xef\xbb\xbf" + '{"contexts": ["häuser 房子"]}\r\n{"contexts": ["a\u2028b"]}'.encode()
    )
    assert texts(read_workload(str(path))) == [["häuser 房子"], ["a\u2028b"]]


def test_objects_are_what_their_text_is_and_without_one_what_their_id_is(tmp_path):
    path = tmp_path / "w.jsonl"
    path.write_text(
        '{"contexts": [{"id": "a", "text": "first"}, {"id": "c"}]}\n'
        '{"contexts": [{"id": "b", "text": "first"}, {"id": "c"}]}'
    )
    [one, other] = read_workload(str(path)).contexts
    assert [block.key for block in one] == [block.key for block in other]
    assert one[0].key != one[1].key


FAULTS = [
    ("", "w.jsonl contains no request"),
    ("\n \n", "w.jsonl contains no request"),
    ('{"contexts": [1]}\n{"contexts": [1]', "w.jsonl, line 2 is not JSON"),
    ('{"contexts": [1]}\n\n[1, 2]', "w.jsonl, line 3: the line is a list, but must be an object"),
    ("17", "w.jsonl, line 1: the line is a number, but must be an object"),
    ('{"query": "who?"}', "w.jsonl, line 1: contexts is missing, but must be a list"),
    ('{"contexts": "one"}', "w.jsonl, line 1: contexts is a string, but must be a list"),
    ('{"contexts": [], "query": 1}', "w.jsonl, line 1: query is a number, but must be a string"),
    ('{"contexts": [1, "a"]}', "w.jsonl, line 1: contexts"),
    ('{"contexts": [[1]]}', "w.jsonl, line 1: contexts[0]"),
    ('{"contexts": [null]}', "w.jsonl, line 1: contexts[0]"),
    ("[" * 100_000, "w.jsonl, line 1 is not JSON"),
]


@pytest.mark.parametrize(("content", "complaint"), FAULTS)
def test_a_line_at_fault_is_named(run, tmp_path, content, complaint):
    path = tmp_path / "w.jsonl"
    path.write_text(content)
    said = run.refused("simulate", path)
    assert said.startswith(f"contextpilot simulate: {complaint}")
    assert said.endswith(EXPECTED + "\n")
    if "query" not in complaint:
        assert run.refused("warm", "--dry-run", "--log", path) == said.replace("simulate", "warm")


def test_warming_needs_only_the_contexts_of_a_log(tmp_path):
    path = tmp_path / "w.jsonl"
    path.write_text('{"contexts": ["a"], "query": 1, "answers": 2}\n\n{"contexts": [3]}\n')
    assert [[block.text for block in one] for one in stream_contexts(str(path))] == [["a"], ["3"]]


DOCUMENT_FAULTS = [
    ([1], "w.json holds"),
    ({"requests": []}, "w.json: docs is missing, but must be a list"),
    ({"docs": []}, "w.json: requests is missing, but must be a list"),
    ({"docs": {}, "requests": []}, "w.json: docs is an object, but must be a list"),
    ({"docs": [], "requests": []}, "w.json contains no request"),
    ({"docs": ["a"], "requests": [3]}, "w.json: requests[0] is a number, but must be an object"),
    (
        {"docs": ["a"], "requests": [{"contexts": [0]}, {}]},
        "w.json: requests[1].contexts is missing, but must be a list",
    ),
    (
        {"docs": ["a"], "requests": [{"contexts": [], "query": True}]},
        "w.json: requests[0].query is a boolean, but must be a string",
    ),
    ({"docs": ["a", 1], "requests": []}, "w.json: docs"),
    *(
        (
            {"docs": ["a"], "requests": [{"contexts": [bad]}]},
            f"w.json: requests[0].contexts holds {json.dumps(bad)}, but must hold integers from 0",
        )
        for bad in (1, -1, True, "0", 0.0, None)
    ),
]


@pytest.mark.parametrize(("content", "complaint"), DOCUMENT_FAULTS)
def test_a_field_at_fault_is_named(run, tmp_path, content, complaint):
    path = tmp_path / "w.json"
    path.write_text(json.dumps(content))
    said = run.refused("simulate", path)
    assert said.startswith(f"contextpilot simulate: {complaint}")


def test_files_that_cannot_be_read(run, tmp_path):
    assert "No such file" in run.refused("simulate", tmp_path / "w.jsonl")
    assert "directory" in run.refused("simulate", tmp_path)


BROKEN = [
    (gzip.compress(LINES.encode(), mtime=0)[:-12], "w.jsonl is not a complete gzip"),
    (gzip.compress(LINES.encode(), mtime=0)[:20] + b"\0" * 40, "w.jsonl is not a complete gzip"),
    (gzip.compress(LINES.encode(), mtime=0)[:-8] + b"\0" * 8, "w.jsonl is not a complete gzip"),
    (gzip.compress(LINES.encode(), mtime=0) + b"more", "w.jsonl is not a complete gzip"),
    (b'{"contexts": []}\n{"contexts": ["\xff"]}', "w.jsonl, line 2 is not UTF-8 text"),
    (b"\x00\x01\x02", "w.jsonl, line 1 is not JSON"),
]


@pytest.mark.parametrize(("data", "complaint"), BROKEN)
def test_bytes_that_are_no_text(run, tmp_path, data, complaint):
    path = tmp_path / "w.jsonl"
    path.write_bytes(data)
    assert complaint in run.refused("simulate", path)
    assert complaint in run.refused("warm", "--dry-run", "--log", path)


def test_neither_lines_nor_document(run, tmp_path):
    path = tmp_path / "w.txt"
    path.write_text("query,contexts\nwho?,1\n")
    said = run.refused("simulate", path)
    assert "w.txt is not JSON" in said
    assert EXPECTED in said


def write_parquet(path, **columns):
    parquet.write_table(pyarrow.table(columns), path)
    return str(path)


def test_parquet(tmp_path, run):
    blocks = [["first text", "second text"], ["first text"]]
    path = write_parquet(
        tmp_path / "w.parquet", other=[1, 2], query=["who?", None], contexts=blocks
    )
    workload = read_workload(path)
    assert (workload.name, workload.queries) == ("w.parquet", ["who?", ""])
    assert (texts(workload), workload.answers) == (READ, [[], []])
    found = run("simulate", path, "--json").json()
    assert (found["requests"], found["blocks"]) == (2, 2)


def test_parquet_of_objects_with_answers(tmp_path):
    blocks = [[{"id": "a", "text": "first text"}, {"id": "b", "text": "second text"}]]
    path = write_parquet(tmp_path / "w.parquet", contexts=blocks, answers=[["it"]])
    workload = read_workload(path)
    assert (texts(workload), workload.answers) == (READ[:1], [["it"]])


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"documents": [["a"]]}, "no column 'contexts': its columns are documents"),
        ({"contexts": [["a"], None]}, "w.parquet, row 1: contexts is missing, but must be a list"),
        ({"contexts": []}, "w.parquet contains no request"),
    ],
)
def test_parquet_that_is_no_workload(tmp_path, columns, told):
    path = write_parquet(tmp_path / "w.parquet", **columns)
    for read in (read_workload, lambda path: list(stream_contexts(path))):
        with pytest.raises(CommandError, match=told):
            read(path)


def test_a_query_that_is_no_text_matters_only_where_queries_are_sent(tmp_path):
    path = write_parquet(tmp_path / "w.parquet", contexts=[["a"]], query=[{"role": "user"}])
    with pytest.raises(CommandError, match="row 0: query is an object, but must be a string"):
        read_workload(path)
    assert [[block.text for block in blocks] for blocks in stream_contexts(path)] == [["a"]]


def test_what_is_named_parquet_and_is_none(tmp_path):
    (tmp_path / "w.parquet").write_text(LINES)
    with pytest.raises(CommandError, match="is not a Parquet file"):
        read_workload(str(tmp_path / "w.parquet"))


def test_parquet_without_pyarrow_names_the_fix(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "w.parquet").write_text(LINES)
    with pytest.raises(CommandError, match="pip install pyarrow"):
        read_workload(str(tmp_path / "w.parquet"))

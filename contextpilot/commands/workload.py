"""Reads workloads: recorded requests, each with the blocks that retrieval returned for it.

Three layouts: one JSON document with `docs` and `requests` or JSON Lines, either also gzipped, or
a Parquet file.
"""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from contextpilot.block import Block, BlockKey, BlockReader
from contextpilot.errors import CommandError

STDIN = "-"
_LINES = (".jsonl", ".ndjson")
EXPECTED = """\
expected is either JSON Lines, one request per line, a block being a text, an integer id or an
object with an id, a text or both:
  {"query": "who?", "contexts": ["first text", "second text"]}
  {"query": "what?", "contexts": [{"id": "a", "text": "first text"}]}
or one JSON document whose contexts count into docs from 0:
  {"docs": ["first text", "second text"], "requests": [{"query": "who?", "contexts": [1, 0]}]}
or a Parquet file with the columns query and contexts, as in JSON Lines"""

_GZIP_MAGIC = b"\x1f\x8b"
_Request: TypeAlias = tuple[str, list[Block], list[str]]


class Workload(NamedTuple):
    """Recorded requests, in order of arrival.

    Attributes:
        contexts: `contexts[i]` are the blocks of `queries[i]`.
        answers: `answers[i]` are its gold answers; often none.
    """

    name: str
    queries: list[str]
    contexts: list[list[Block]]
    answers: list[list[str]]

    def first(self, count: int | None) -> Workload:
        """Return the first `count` requests; all of them for None."""
        cut = slice(count)
        return Workload(self.name, self.queries[cut], self.contexts[cut], self.answers[cut])


def read_workload(path: str) -> Workload:
    """Read a workload file, or standard input when `path` is "-".

    Raises:
        CommandError: the content has no known layout; line or field and the fix are named.
        OSError: the file cannot be read.
    """
    name = "standard input" if path == STDIN else Path(path).name
    if _suffix(path) == ".parquet":
        return _collected(name, _of_parquet(path, name))
    text = _decode(sys.stdin.buffer.read() if path == STDIN else Path(path).read_bytes(), name)
    document = None if _suffix(path) in _LINES else _document(text, name)
    return _collected(
        name, _of_lines(text, name) if document is None else _of_document(document, name)
    )


def _collected(name: str, requests: Iterable[_Request]) -> Workload:
    workload = Workload(name, [], [], [])
    for query, blocks, answers in requests:
        workload.queries.append(query)
        workload.contexts.append(blocks)
        workload.answers.append(answers)
    if not workload.queries:
        raise _unreadable(f"{name} contains no request")
    return workload


def _suffix(path: str) -> str:
    """Return the suffix that names a file's layout; "" of standard input."""
    return next((s for s in reversed(Path(path).suffixes) if s != ".gz"), "")


def stream_contexts(path: str) -> Iterator[list[Block]]:
    """Yield the contexts of a workload file; JSON Lines and Parquet are read request by request.

    A text that recurs is held once, however long the file is.

    Raises:
        CommandError, OSError: as of `read_workload`, when it is come to.
    """
    suffix, name, known = _suffix(path), Path(path).name, dict[BlockKey, Block]()
    if suffix == ".parquet":
        found: Iterable[list[Block]] = _parquet_contexts(path, name)
    elif suffix in _LINES:
        found = _jsonl_contexts(path, name)
    else:
        found = read_workload(path).contexts
    try:
        for blocks in found:
            yield [known.setdefault(block.key, block) for block in blocks]
    except (ValueError, TypeError) as error:
        raise CommandError(str(error)) from None


def _jsonl_contexts(path: str, name: str) -> Iterator[list[Block]]:
    """Yield contexts line by line; of a request nothing else needs to be there."""
    from contextpilot.stream import json_lines

    reader, where = BlockReader(), ""
    for where, request in _requests(json_lines(path), name):
        context = _check_context(request, "the line", where)
        yield _read_blocks(reader, context, "contexts", where)
    if not where:
        raise _unreadable(f"{name} contains no request")


def _of_parquet(path: str, name: str) -> Iterator[_Request]:
    reader = BlockReader()
    for where, row in _parquet_rows(path, name, ["query", "answers"]):
        row["query"] = row.get("query") or ""
        query, context, answers = _check_request(row, "the row", where)
        yield query, _read_blocks(reader, context, "contexts", where), answers


def _parquet_contexts(path: str, name: str) -> Iterator[list[Block]]:
    """Yield the contexts row by row; other columns are not even read."""
    reader = BlockReader()
    for where, row in _parquet_rows(path, name, []):
        context = _check_context(row, "the row", where)
        yield _read_blocks(reader, context, "contexts", where)


def _parquet_rows(
    path: str, name: str, optional: Sequence[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a Parquet file, each with the place where it was found."""
    from contextpilot.stream import parquet_rows

    where = ""
    try:
        for number, row in enumerate(parquet_rows(path, ["contexts"], optional)):
            where = f"{name}, row {number}"
            yield where, row
    except (ImportError, ValueError) as error:
        raise CommandError(str(error)) from None
    if not where:
        raise _unreadable(f"{name} contains no request")


def _decode(data: bytes, name: str) -> str:
    try:
        if data.startswith(_GZIP_MAGIC):
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CommandError(f"{name} is not a complete gzip file: {error}") from None
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _unreadable(f"{name}, line {line} is not UTF-8 text: {error}") from None


def _document(text: str, name: str) -> Any:
    """Return the JSON document in `text`; None when it rather holds one request per line."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        first = text.lstrip().partition("\n")[0]
        try:
            json.loads(first)
        except (ValueError, RecursionError):
            raise _unreadable(f"{name} is not JSON: {error}") from None
        return None
    return None if isinstance(document, dict) and "contexts" in document else document


def _of_document(document: Any, name: str) -> Iterator[_Request]:
    if not isinstance(document, dict):
        raise _unreadable(f"{name} holds {_kind(document)} where an object is expected")
    for field in ("docs", "requests"):
        if not isinstance(document.get(field), list):
            raise _unreadable(
                f"{name}: {field} is {_kind(document.get(field))}, but must be a list"
            )
    docs = _read_blocks(BlockReader(), document["docs"], "docs", name)
    for i, request in enumerate(document["requests"]):
        field = f"requests[{i}]"
        query, context, answers = _check_request(request, field, name)
        yield query, [docs[_check_number(n, len(docs), field, name)] for n in context], answers


def _of_lines(text: str, name: str) -> Iterator[_Request]:
    reader = BlockReader()
    for where, request in _requests(enumerate(text.split("\n"), start=1), name):
        query, context, answers = _check_request(request, "the line", where)
        yield query, _read_blocks(reader, context, "contexts", where), answers


def _requests(lines: Iterable[tuple[int, str | bytes]], name: str) -> Iterator[tuple[str, Any]]:
    """Yield the requests of numbered lines, each with the place where it was found."""
    for number, line in lines:
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            text = line if isinstance(line, str) else line.decode("utf-8-sig")
            request = json.loads(text.rstrip())
        except UnicodeDecodeError as error:
            raise _unreadable(f"{where} is not UTF-8 text: {error}") from None
        except (ValueError, RecursionError) as error:
            raise _unreadable(f"{where} is not JSON: {error}") from None
        yield where, request


def _check_request(request: Any, field: str, where: str) -> tuple[str, list[Any], list[str]]:
    context = _check_context(request, field, where)
    query, prefix = request.get("query", ""), _prefix(field)
    if not isinstance(query, str):
        raise _unreadable(f"{where}: {prefix}query is {_kind(query)}, but must be a string")
    return query, context, _check_answers(request.get("answers"), prefix, where)


def _check_context(request: Any, field: str, where: str) -> list[Any]:
    if not isinstance(request, Mapping):
        raise _unreadable(f"{where}: {field} is {_kind(request)}, but must be an object")
    context = request.get("contexts")
    if not isinstance(context, list):
        problem = f"contexts is {_kind(context)}, but must be a list"
        raise _unreadable(f"{where}: {_prefix(field)}{problem}")
    return context


def _prefix(field: str) -> str:
    return "" if field in ("the line", "the row") else f"{field}."


def _check_answers(answers: Any, prefix: str, where: str) -> list[str]:
    """Return gold answers: a list of strings, or one string; none are given in most workloads."""
    listed = [answers] if isinstance(answers, str) else [] if answers is None else answers
    if not isinstance(listed, list) or not all(isinstance(text, str) for text in listed):
        raise _unreadable(f"{where}: {prefix}answers must be a list of strings")
    return listed


def _check_number(number: Any, num_docs: int, field: str, where: str) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < num_docs:
        raise _unreadable(
            f"{where}: {field}.contexts holds {json.dumps(number)[:60]}, but must hold integers "
            f"from 0 to {num_docs - 1}, the positions in docs"
        )
    return number


def _read_blocks(reader: BlockReader, values: list[Any], field: str, where: str) -> list[Block]:
    try:
        return reader.read(values, field, bare_ids=True)
    except TypeError as error:
        raise _unreadable(f"{where}: {error}") from None


def _unreadable(problem: str) -> CommandError:
    return CommandError(f"{problem}\n{EXPECTED}")


def _kind(value: Any) -> str:
    if value is None:
        return "missing"
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    return names.get(type(value), "a number")

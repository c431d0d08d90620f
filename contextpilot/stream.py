"""Batches too large for memory: contexts are read one by one, and only their plan is kept.

    for position, order in contextpilot.plan_stream(jsonl_contexts("requests.jsonl.gz")):
        ...

Only a text's identity and weight stay in memory, once for all contexts.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from contextpilot.block import UNKNOWN_TOKENS, Block, BlockKey, BlockReader, Tokenizer
from contextpilot.index import ContextIndex
from contextpilot.options import CallOptions, Options
from contextpilot.plan.online import OnlinePlanner
from contextpilot.plan.support import SupportWindow
from contextpilot.planning import arithmetic_of
from contextpilot.progress import ProgressBar, is_asked_for

if TYPE_CHECKING:
    from typing_extensions import Unpack

_ROWS_AT_ONCE = 4096
_MAX_LINE_BYTES = 256 << 20
_GZIP_MAGIC = b"\x1f\x8b"


class Step(NamedTuple):
    """One step of a batch: which context runs next, and in which order of its blocks."""

    position: int
    order: tuple[int, ...]


def plan_stream(
    contexts: Iterable[Sequence[Any]],
    *,
    tokenizer: Tokenizer | None = None,
    use_gpu: bool = False,
    progress: bool | None = None,
    **options: Unpack[CallOptions],
) -> Iterator[Step]:
    """Plan a batch of contexts that come one by one; yield its steps in execution order.

    All contexts are read before the first step. Nothing is learnt: the batch is planned by
    itself, as if nothing were cached.

    Args:
        contexts: the blocks of each, most relevant first: strings, integers, or objects with a
            text or an id.
        tokenizer: returns the number of tokens of a text; without it weights are estimates.
        use_gpu: as for `ContextPilot`.
        progress: show a progress bar in a terminal. Default: CONTEXTPILOT_PROGRESS, otherwise no.
        options: those of `Options` that bound moves.

    Raises:
        TypeError, ValueError: a context or an option is of the wrong kind; it is named.
    """
    bounds = Options().override(**options).bounds
    if not isinstance(contexts, Iterable):
        kind = type(contexts).__name__
        raise TypeError(f"contexts must be an iterable of contexts, each a list, not {kind}")
    batch = list(_known_blocks(contexts, BlockReader(tokenizer)))
    from contextpilot.plan.batch import BatchPlanner  # SciPy takes a while to import

    planner = OnlinePlanner(ContextIndex(), SupportWindow())
    together = BatchPlanner(planner, arithmetic=arithmetic_of(use_gpu))
    with ProgressBar("planning", enabled=is_asked_for(progress)) as bar:
        groups = together.prepare(batch, bounds, progress=bar)
    for position, plan in together.walk(batch, groups, bounds):
        yield Step(position, plan.order)


class _Known(dict[BlockKey, Block]):
    """Blocks by key; integers among them are made when first asked for."""

    def __missing__(self, number: int) -> Block:
        block = self[number] = Block(number, "", UNKNOWN_TOKENS, None)
        return block


def _known_blocks(
    contexts: Iterable[Sequence[Any]], reader: BlockReader
) -> Iterator[tuple[Block, ...]]:
    """Yield the contexts without their texts, equal blocks being the same object."""
    known = _Known()
    for i, context in enumerate(contexts):
        if type(context) is list and {*map(type, context)} == {int}:  # as `reader` does
            yield tuple(map(known.__getitem__, context))
            continue
        blocks = reader.read(context, f"contexts[{i}]", bare_ids=True)
        for block in blocks:
            if block.key not in known:
                known[block.key] = Block(block.key, "", block.weight, None)
        yield tuple([known[block.key] for block in blocks])


def jsonl_contexts(path: str | Path, field: str = "contexts") -> Iterator[list[Any]]:
    """Yield the contexts of a file of JSON Lines, gzipped or not: each line's `field`.

    Raises:
        ValueError: a line is not JSON or far too long, or its `field` is not a list, or the file is
            no whole gzip file; it is named.
    """
    for number, line in json_lines(path):
        yield _context_of(line, field, f"{path}, line {number}")


def json_lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of each line of a file, gzipped or not, that is not blank.

    Raises:
        ValueError: a line is far too long, or the file is no whole gzip file; it is named.
    """
    with open(path, "rb") as raw:
        is_gzip = raw.read(2) == _GZIP_MAGIC
        raw.seek(0)
        with gzip.open(raw) if is_gzip else raw as lines:
            read = partial(lines.readline, _MAX_LINE_BYTES + 1)
            try:
                for number, line in enumerate(iter(read, b""), start=1):
                    if len(line) > _MAX_LINE_BYTES:
                        raise ValueError(f"{path}, line {number} is longer than any request")
                    if line.strip():
                        yield number, line
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise ValueError(f"{path} is not a complete gzip file: {error}") from None


def _context_of(line: bytes, field: str, where: str) -> list[Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON: {error}") from None
    context = request.get(field) if isinstance(request, Mapping) else None
    if not isinstance(context, list):
        raise ValueError(f"{where}: {field} must be a list of blocks")
    return context


def parquet_contexts(path: str | Path, column: str = "contexts") -> Iterator[list[Any]]:
    """Yield the contexts of a Parquet file: the lists of one column. Needs the extra `parquet`.

    Raises:
        ImportError: PyArrow is not installed.
        ValueError: there is no such column, or a row is not a list; it is named.
    """
    for number, row in enumerate(parquet_rows(path, [column])):
        if not isinstance(row[column], list):
            raise ValueError(f"{path}, row {number}: {column} must be a list of blocks")
        yield row[column]


def parquet_rows(
    path: str | Path, columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file, each with these columns, and the optional ones it has.

    Raises:
        ImportError, ValueError: as of `parquet_contexts`; or the file is no Parquet.
    """
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError as error:
        raise ImportError("Parquet files need PyArrow: pip install pyarrow") from error
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            for column in columns:
                if column not in names:
                    has = ", ".join(names)
                    raise ValueError(f"{path} has no column {column!r}: its columns are {has}")
            wanted = [*columns, *(column for column in optional if column in names)]
            for rows in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=wanted):
                yield from rows.to_pylist()
    except ArrowInvalid as error:
        raise ValueError(f"{path} is not a Parquet file: {error}") from None

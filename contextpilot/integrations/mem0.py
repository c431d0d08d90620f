"""Mem0: what `search` and `get_all` of `Memory` and `AsyncMemory` return, ready for planning.

    from contextpilot.integrations.mem0 import memory_blocks

    blocks = memory_blocks(memory.search(question, filters={"user_id": "alice"}))
    messages = pilot.optimize(blocks, question)
    first = blocks[messages.order[0]]  # the row of the memory that the prompt shows as [1]

Written against Mem0 0.1.118 to 2.2; nothing of Mem0 is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import isawaitable
from typing import Any

from contextpilot.default import default_pilot
from contextpilot.pilot import ContextPilot

ORIGINAL_RANK = "original_rank"
"""Member of rows that `order_memories` returns: the rank that the search gave a memory, from 1."""


def memory_blocks(
    found: Any, write: Callable[[Mapping[str, Any]], str] | None = None
) -> list[dict[str, Any]]:
    """Return the memories and then the relations as blocks for `optimize` and its siblings.

    A block is a copy of the row, with all its members (id, score, metadata, ...). A relation is a
    block with the members `text` and `relation`, the latter as Mem0 returned it.

    Args:
        found: what Mem0 returned, whole, or its list of rows.
        write: returns what a prompt shows of a memory. Default: its text, the member `memory`.

    Raises:
        TypeError: `found` is not what a search returns.
    """
    blocks = [{**row} if write is None else {**row, "text": write(row)} for row in _rows(found)]
    relations = (isinstance(found, Mapping) and found.get("relations")) or ()
    return blocks + [{"text": _sentence(one), "relation": one} for one in relations]


def order_memories(found: Any, pilot: ContextPilot | None = None) -> Any:
    """Return what Mem0 found in the order that the engine's prefix cache likes.

    For those who write their own prompt. Nothing is left out, and what is given is not changed:
    the rows are copies, with the member `original_rank`; relations stay as they are.

    Args:
        found: what Mem0 returned, whole, or its list of rows.
        pilot: what plans; share one among all that share an engine. Default: that of
            `contextpilot.optimize`.

    Raises:
        TypeError: `found` is not what a search returns.
    """
    rows = _rows(found)
    (planned,), _ = (pilot or default_pilot()).reorder([rows])
    ordered = [{**rows[rank], ORIGINAL_RANK: rank + 1} for rank in planned.order]
    return {**found, "results": ordered} if isinstance(found, Mapping) else ordered


def _rows(found: Any) -> Sequence[Mapping[str, Any]]:
    if isawaitable(found):
        raise TypeError("found is a coroutine: await what AsyncMemory returns")
    rows = found.get("results") if isinstance(found, Mapping) else found
    if isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, Sequence):
        raise TypeError(
            "found must be what Mem0's search or get_all returns, a dictionary with the list "
            f"'results' or that list, not {type(found).__name__}"
        )
    for i, row in enumerate(rows):
        if not isinstance(row, Mapping) or not isinstance(row.get("memory"), str):
            raise TypeError(f"results[{i}] must be a memory: a dictionary with a text in 'memory'")
    return rows


def _sentence(relation: Any) -> str:
    """Return a relation as Mem0's own prompts write it; a search and a listing name them apart."""
    if not isinstance(relation, Mapping):
        raise TypeError(f"relations must hold dictionaries, not {type(relation).__name__}")
    end = relation.get("destination", relation.get("target"))
    parts = (relation.get("source"), relation.get("relationship"), end)
    if not all(isinstance(part, str) for part in parts):
        raise TypeError("a relation must have texts in source, relationship and destination")
    return " -- ".join(map(str, parts))

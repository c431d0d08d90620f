"""A look into the context index: what follows a path, as hashes, kinds and weights.

It reads the tree without the lock, on a thread: what changes meanwhile may be seen half done.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Mapping
from typing import Any

from contextpilot.block import BlockKey
from contextpilot.index import ContextIndex
from contextpilot.radix import Node

MAX_DEPTH = 2_000
_SHOWN_BRANCHES = 40
_SHOWN_RUN = 200


def branches(
    index: ContextIndex, weights: Mapping[BlockKey, int], path: str
) -> dict[str, Any] | None:
    """Return the runs of blocks that follow a path, each up to where the tree branches.

    Args:
        weights: tokens of blocks, as far as they are known.
        path: names of blocks, as this function gives them, joined by dots; empty for the root.

    Returns:
        None when the path is not in the tree.
    """
    place = _find(index.root, path.split(".")[:MAX_DEPTH] if path else [])
    if place is None:
        return None
    node, covered = place
    inside = covered < len(node.keys)
    following = [node] if inside else list(node.children.values())
    start = covered if inside else 0
    largest = heapq.nlargest(_SHOWN_BRANCHES, following, key=_size)
    found = [_branch(child, start, weights) for child in largest]
    found.sort(key=lambda branch: (-branch["branches"], -branch["tokens"]))
    return {"branches": found, "hidden": len(following) - len(found)}


def _size(node: Node) -> tuple[int, int]:
    return len(node.children), len(node.keys)


def _branch(node: Node, start: int, weights: Mapping[BlockKey, int]) -> dict[str, Any]:
    run = node.keys[start : start + _SHOWN_RUN]
    following = len(node.children) if len(node.keys) <= start + _SHOWN_RUN else 1
    while following == 1 and len(run) < _SHOWN_RUN:
        (node,) = list(node.children.values())[:1] or [node]
        room = _SHOWN_RUN - len(run)
        run += node.keys[:room]
        following = len(node.children) if len(node.keys) <= room else 1
    return {
        "blocks": [{"name": name_of(k), "kind": _kind(k), "tokens": weights.get(k)} for k in run],
        "tokens": sum(weights.get(key, 0) for key in run),
        "branches": following,
    }


def _find(node: Node, names: list[str]) -> tuple[Node, int] | None:
    """Return the node in which a path of names ends, and how many of its blocks it covers."""
    covered = 0
    for name in names:
        if covered == len(node.keys):
            children = list(node.children.values())
            child = next((c for c in children if name_of(c.keys[0]) == name), None)
            if child is None:
                return None
            node, covered = child, 0
        elif name_of(node.keys[covered]) != name:
            return None
        covered += 1
    return node, covered


def name_of(key: BlockKey) -> str:
    """Return a block's name: the head of its hash. An id that the caller gave is hashed, too."""
    if isinstance(key, bytes):
        return key.hex()[:12]
    if isinstance(key, tuple) and key and isinstance(key[-1], bytes):
        return key[-1].hex()[:12]
    return hashlib.sha256(repr(key).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _kind(key: BlockKey) -> str:
    is_head = isinstance(key, tuple) and len(key) == 2 and key[0] != "id"
    return "head" if is_head else "block"

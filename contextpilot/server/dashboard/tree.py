"""A look into the context index: what follows a path, as hashes, kinds and weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from contextpilot.block import BlockKey
from contextpilot.index import ContextIndex

MAX_DEPTH = 2_000
_SHOWN_BRANCHES = 40
_SHOWN_RUN = 200
_MAX_STEPS = 4_000


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
    keys = _resolve(index, path)
    if keys is None:
        return None
    children = index.children(keys)
    steps = [_MAX_STEPS]
    found = [_branch(index, [*keys, key], len(keys), weights, steps) for key in children]
    found.sort(key=lambda branch: (-branch["branches"], -branch["tokens"]))
    return {"branches": found[:_SHOWN_BRANCHES], "hidden": max(0, len(found) - _SHOWN_BRANCHES)}


def _branch(
    index: ContextIndex,
    keys: list[BlockKey],
    start: int,
    weights: Mapping[BlockKey, int],
    steps: list[int],
) -> dict[str, Any]:
    following = index.children(keys)
    while len(following) == 1 and len(keys) - start < _SHOWN_RUN and steps[0] > 0:
        steps[0] -= 1
        keys.append(following[0])
        following = index.children(keys)
    run = keys[start:]
    return {
        "blocks": [{"name": name_of(k), "kind": _kind(k), "tokens": weights.get(k)} for k in run],
        "tokens": sum(weights.get(key, 0) for key in run),
        "branches": len(following),
    }


def _resolve(index: ContextIndex, path: str) -> list[BlockKey] | None:
    """Return the keys that the names of a path stand for."""
    keys: list[BlockKey] = []
    for name in path.split(".")[:MAX_DEPTH] if path else ():
        key = next((key for key in index.children(keys) if name_of(key) == name), None)
        if key is None:
            return None
        keys.append(key)
    return keys


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

"""What an SGLang prefix cache is like, and how it can be looked at without touching it.

Known by its shape: class and version, the components of its nodes, whether its keys are pairs of
tokens (EAGLE, MTP), and whether it has a tier that we do not see.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from .patching import NotSupported, resolve
from .sglang_parts import BOUND, BoundNodes, CollectedNodes, Nodes, Parts, ProbedNodes
from .sglang_tree import ProbedTree, Tree, WalkedTree

RADIX = ("sglang.srt.mem_cache.radix_cache", "RadixCache")
UNIFIED = ("sglang.srt.mem_cache.unified_radix_cache", "UnifiedRadixCache")
KNOWN = {RADIX: ((0, 5, 1), (0, 5, 18)), UNIFIED: ((0, 5, 19), (0, 5, 23))}
"""First and last version in which a class is the prefix cache and was tested."""

PARTS_SINCE = (0, 5, 20)
"""First version in which a tree whose nodes have parts besides FULL can be followed."""


class View(NamedTuple):
    """A prefix cache as it is seen, read only.

    parts: what its nodes have besides their tokens; None for nothing, and then `tree` is a `Tree`.
    paired: its keys are pairs of tokens. salted: they carry `cache_salt` (before, it was part of
    `extra_key`).
    """

    tree: Tree | Nodes
    parts: Parts | None
    paired: bool
    salted: bool


def view(cache: Any) -> View:
    """A read-only view of a prefix cache that we know. Raises NotSupported."""
    kind = (type(cache).__module__, type(cache).__name__)
    known = KNOWN.get(kind)
    if known is None:
        raise NotSupported(f"its prefix cache is a {kind[1]}")
    first, last = known
    if not first <= _numbers(version()) <= last:
        raise NotSupported(f"{kind[1]} is known from {_dotted(first)} to {_dotted(last)}")
    if getattr(cache, "disable", False):
        raise NotSupported("prefix caching is off")
    parts = None
    if kind == RADIX:
        tree: Tree | Nodes = _walked(cache, cache)
    else:
        _check_tiers(cache)
        parts = _parts(cache.components)
        tree = _unified(cache, cache.tree_core) if parts is None else _nodes(cache.tree_core, cache)
    paired = bool(getattr(getattr(cache, "tree_core", cache), "is_eagle", False))
    return View(tree, parts, paired, _is_salted())


def _check_tiers(cache: Any) -> None:
    if cache.cache_controller is not None or getattr(cache, "linker", None) is not None:
        raise NotSupported("the cache has a host or external tier")


def _parts(components: Mapping[Any, Any]) -> Parts | None:
    """What the nodes have besides FULL. Raises NotSupported for what is not known."""
    kinds = {str(getattr(kind, "name", kind)): kind for kind in components}
    if list(kinds) == ["FULL"]:
        return None
    unknown = [name for name in kinds if name not in ("FULL", "SWA", "MAMBA")]
    if unknown or "FULL" not in kinds:
        raise NotSupported(f"the tree's nodes hold {' and '.join(kinds)}")
    if _numbers(version()) < PARTS_SINCE:
        raise NotSupported(
            f"trees of {' and '.join(kinds)} are known from {_dotted(PARTS_SINCE)} on"
        )
    window = 0
    if "SWA" in kinds:
        component = components[kinds["SWA"]]
        if not getattr(component, "gates_prefix_match", True):
            raise NotSupported("its sliding window is not the tree's own")
        window = int(component.sliding_window_size)
    return Parts(kinds.get("SWA"), window, kinds.get("MAMBA"))


def _nodes(core: Any, cache: Any) -> Nodes:
    resolve(type(core), "match_full_device_prefix", ("key",))
    resolve(type(core), "get_component_device_value", ("node_id", "component_type"))
    resolve(type(core), "dec_swa_lock_only", ("node_id",))
    collects = callable(getattr(core, "collect_path_info", None))
    binding = getattr(core, "_binding", None)
    if collects and all(callable(getattr(binding, name, None)) for name in BOUND):
        return BoundNodes(core, cache.page_size)
    return (CollectedNodes if collects else ProbedNodes)(core, cache.page_size)


def _unified(cache: Any, core: Any) -> Tree:
    if type(core).__name__ == "UnifiedTreeCore":  # the walk is faster than this core's own probe
        return _walked(cache, core)
    if not callable(getattr(core, "match_full_device_prefix", None)):
        raise NotSupported(f"{type(core).__name__} cannot be asked before 0.5.20")
    return ProbedTree(core, cache.page_size)


def _walked(cache: Any, owner: Any) -> Tree:
    missing = [name for name in ("children", "id", "key") if not hasattr(owner.root_node, name)]
    if missing:
        raise NotSupported(f"tree nodes have no {', '.join(missing)}")
    page_size = cache.page_size
    child_key = getattr(cache, "get_child_key_fn", None)
    if child_key is None:
        of_key = getattr(_radix_key(), "child_key", None)
        if of_key is None:
            raise NotSupported("no function tells the key of a child")

        def child_key(key: Any) -> Any:
            return of_key(key, page_size)

    return WalkedTree(owner, page_size, child_key)


def version() -> str:
    """SGLang's own version."""
    return str(getattr(sys.modules.get("sglang"), "__version__", "of unknown version"))


def _radix_key() -> Any:
    return getattr(sys.modules.get(RADIX[0]), "RadixKey", None)


def _is_salted() -> bool:
    """Whether keys carry `cache_salt` (before, it was part of `extra_key`)."""
    radix_key = _radix_key()
    return radix_key is not None and "cache_salt" in inspect.signature(radix_key).parameters


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))

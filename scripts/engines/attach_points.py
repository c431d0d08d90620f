"""Print which of the hooks' attach points an engine's release lacks, without importing the engine.

    python scripts/engines/attach_points.py                    both engines as set up here
    python scripts/engines/attach_points.py vllm --newest      the newest release, which is fetched
    python scripts/engines/attach_points.py sglang --version 0.5.23
    python scripts/engines/attach_points.py sglang --files SITE_PACKAGES

Takes seconds, besides the download: classes are rebuilt from the sources as empty shells with the
same signatures. Ends with 1 if anything is lacking; a new kind of layers or cache is named, too.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "hooks")]

import versions  # noqa: E402
from contextpilot_hooks import vllm as vllm_hook  # noqa: E402
from contextpilot_hooks.patching import NotSupported, resolve  # noqa: E402
from environments import environment  # noqa: E402

from contextpilot.commands.checks.attach_probe import shell  # noqa: E402


class Method(NamedTuple):
    """A function of a class, or of a module where `owner` is empty."""

    module: str
    owner: str
    name: str
    parameters: tuple[str, ...] = ()

    def is_in(self, release: Release) -> bool:
        """Whether a release has it, with these parameters."""
        found: object = release.module(self.module)
        owner = getattr(found, self.owner, None) if self.owner else found
        try:
            resolve(owner, self.name, self.parameters)
        except NotSupported:
            return False
        return True


class Member(NamedTuple):
    """An attribute that a module's classes set or have."""

    module: str
    name: str

    def is_in(self, release: Release) -> bool:
        """Whether it occurs in the sources."""
        return self.name in release.members(self.module)


class Need(NamedTuple):
    """What one of these attach points is needed for; any one will do."""

    purpose: str
    points: tuple[Method | Member, ...]


class Release:
    """The sources of one release of an engine below a folder."""

    def __init__(self, files: Path) -> None:
        self.files = files

    def path(self, module: str) -> Path | None:
        """Where a module's source is; None if it is not there."""
        place = self.files.joinpath(*module.split("."))
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                return path
        return None

    def module(self, name: str) -> ModuleType | None:
        """A module's classes and functions, all of them empty."""
        path = self.path(name)
        return shell(path, name) if path is not None else None

    def classes(self, module: str) -> list[str]:
        """The names of a module's classes."""
        return [node.name for node in self._nodes(module) if isinstance(node, ast.ClassDef)]

    def values(self, module: str, name: str) -> list[str]:
        """The names that a class assigns in its body."""
        found = [node for node in self._nodes(module) if isinstance(node, ast.ClassDef)]
        bodies = [node.body for node in found if node.name == name]
        assigned = [node for body in bodies for node in body if isinstance(node, ast.Assign)]
        return [each.id for node in assigned for each in node.targets if isinstance(each, ast.Name)]

    def members(self, module: str) -> set[str]:
        """Attributes that are assigned or declared, and names of methods."""
        found = set[str]()
        for node in self._nodes(module):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.attr)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(node.target.id)
            elif isinstance(node, ast.Assign):
                found.update(each.id for each in node.targets if isinstance(each, ast.Name))
            elif isinstance(node, ast.FunctionDef):
                found.add(node.name)
        return found

    def _nodes(self, module: str) -> Iterator[ast.AST]:
        path = self.path(module)
        if path is not None:
            yield from ast.walk(ast.parse(path.read_text(encoding="utf-8")))


_SCHEDULER = "vllm.v1.core.sched.scheduler"
_POOL = "vllm.v1.core.block_pool"
_COORDINATOR = "vllm.v1.core.kv_cache_coordinator"
_LAYERS = "vllm.v1.core.single_type_kv_cache_manager"


def _methods(module: str, owner: str, shapes: dict[str, tuple[str, ...]]) -> list[Need]:
    return [
        Need(f"{owner}.{name}", (Method(module, owner, name, parameters),))
        for name, parameters in shapes.items()
    ]


def _members(module: str, *names: str) -> tuple[Member, ...]:
    return tuple(Member(module, name) for name in names)


VLLM = [
    *_methods(_SCHEDULER, "Scheduler", vllm_hook._SCHEDULER),
    *_methods(_POOL, "BlockPool", vllm_hook._POOL),
    Need("a key's hash", (Method("vllm.v1.core.kv_cache_utils", "", "get_block_hash"),)),
    Need("hybrid models: what a prompt reuses", (Member(_COORDINATOR, "find_longest_cache_hit"),)),
    Need("hybrid models: the kinds of layers", _members(_COORDINATOR, "single_type_managers")),
    Need(
        "hybrid models: where hits end",
        _members(_COORDINATOR, "lcm_block_size", "scheduler_block_size", "block_size"),
    ),
    Need(
        "EAGLE, MTP: whose last block is computed anew",
        _members(_COORDINATOR, "drop_eagle_group_ids", "eagle_group_ids", "use_eagle"),
    ),
    Need(
        "hybrid models: keys that come and go",
        (
            Method(_POOL, "BlockPool", "_insert_block_hash", ("block_hash_with_group_id",)),
            Method(_POOL, "BlockPool", "_maybe_evict_cached_block", ("block",)),
        ),
    ),
    *(
        Need(f"KV events: {n}", _members("vllm.distributed.kv_events", *f))
        for n, f in (
            ("hashes", ("block_hashes",)),
            ("tokens", ("token_ids",)),
        )
    ),
]

_SGLANG = "sglang.srt.mem_cache"
_BASE = f"{_SGLANG}.base_prefix_cache"
_RANKS = _members("sglang.srt.runtime_context", "attn_tp_rank", "get_parallel")
_UNIFIED = (f"{_SGLANG}.unified_radix_cache", "UnifiedRadixCache")
_RADIX = (f"{_SGLANG}.radix_cache", "RadixCache")
_RUST = (f"{_SGLANG}.rust_tree_core.adapter", "RustUnifiedTreeCore")
_PYTHON = (f"{_SGLANG}.unified_cache.unified_tree_core", "UnifiedTreeCore")
_PARTS = {
    "match_full_device_prefix": ("key",),
    "get_component_device_value": ("node_id", "component_type"),
    "dec_swa_lock_only": ("node_id",),
}


def _either(purpose: str, *methods: tuple[tuple[str, str], str, tuple[str, ...]]) -> Need:
    found = (Method(*place, name, parameters) for place, name, parameters in methods)
    return Need(purpose, tuple(found))


SGLANG = [
    *_methods(
        "sglang.srt.managers.scheduler",
        "Scheduler",
        {"__init__": (), "_add_request_to_queue": ("req",)},
    ),
    _either(
        "insert",
        (_UNIFIED, "insert", ("params",)),
        (_RADIX, "insert", ("params",)),
        (_RADIX, "insert", ("key",)),
    ),
    _either("reset", (_UNIFIED, "reset", ()), (_RADIX, "reset", ())),
    _either("evict", (_UNIFIED, "evict_for_alloc", ()), (_RADIX, "evict", ())),
    _either(
        "the node that goes",
        (_UNIFIED, "_evict_device_leaf", ("node_id",)),
        (_RADIX, "_delete_leaf", ("node",)),
    ),
    _either(
        "where a key ends",
        (_RUST, "match_full_device_prefix", ("key",)),
        (_RADIX, "_match_prefix_helper", ()),
    ),
    _either("parts: what nodes lose", (_UNIFIED, "_evict_device_next_node", ("tracker",))),
    *(
        _either(f"parts: {name} of {core[1]}", (core, name, parameters))
        for core in (_PYTHON, _RUST)
        for name, parameters in _PARTS.items()
    ),
    Need("the ranks", (*_members("sglang.srt.managers.scheduler", "attn_tp_rank"), *_RANKS)),
    Need("parts: where an insert ends", _members(_BASE, "last_device_node")),
    Need("EAGLE: pairs of tokens", (Method(_RADIX[0], "RadixKey", "maybe_to_bigram_view"),)),
    *(
        Need(f"KV events: {n}", _members("sglang.srt.disaggregation.kv_events", *f))
        for n, f in (
            ("hashes", ("block_hashes",)),
            ("tokens", ("token_ids",)),
        )
    ),
]

NEEDS = {"vllm": VLLM, "sglang": SGLANG}

KNOWN_LAYERS = {
    *("SingleTypeKVCacheManager", "FullAttentionManager", "SlidingWindowManager"),
    *("ChunkedLocalAttentionManager", "MambaManager", "CrossAttentionManager"),
    *("SinkFullAttentionManager", "RSWAManager", "CircularBufferManager", "HiSparseHotManager"),
    *("HiSparseSourceManager", "_HiSparseAuxiliaryManager", "HiSparseResidentManager"),
}
KNOWN_PARTS = {"FULL", "SWA", "MAMBA", "C128", "AUXILIARY_SWA"}
"""The last two are refused."""


def news(engine: str, release: Release) -> list[str]:
    """Kinds of layers, or of parts of nodes, that were not there when the hooks were written."""
    if engine == "vllm":
        managers = [name for name in release.classes(_LAYERS) if name.endswith("Manager")]
        return [name for name in managers if name not in KNOWN_LAYERS]
    kinds = release.values(f"{_SGLANG}.unified_cache.component_type", "ComponentType")
    return [name for name in kinds if name not in KNOWN_PARTS]


def lacking(engine: str, release: Release) -> list[Need]:
    """The needs that no attach point of a release meets."""
    return [
        need for need in NEEDS[engine] if not any(point.is_in(release) for point in need.points)
    ]


def newest(engine: str) -> str:
    """The newest released version, as pip knows it. Raises RuntimeError with pip's output."""
    name = versions.SOURCES[engine].requirement("").partition("==")[0]
    command = [sys.executable, "-m", "pip", "index", "versions", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"pip index versions {name} failed:\n{done.stderr[-2000:]}")
    return done.stdout.partition("(")[2].partition(")")[0]


def tell(engine: str, title: str, files: Path) -> bool:
    """Print what a release lacks; return whether it lacks anything."""
    release = Release(files)
    missing = lacking(engine, release)
    print(f"{title}: {len(NEEDS[engine]) - len(missing)} of {len(NEEDS[engine])} found", flush=True)
    for need in missing:
        where = " or ".join(".".join(part for part in point[:3] if part) for point in need.points)
        print(f"  lacks {need.purpose}: {where}")
    for name in news(engine, release):
        print(f"  new kind: {name}")
    return bool(missing)


def main() -> int:
    """Look at the releases that were asked for; 1 if one lacks something."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("engine", nargs="?", choices=sorted(NEEDS))
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--version", help="fetched when it is not there")
    which.add_argument("--newest", action="store_true")
    which.add_argument("--files", type=Path, help="a folder with the engine's package in it")
    options = parser.parse_args()
    found = []
    for engine in [options.engine] if options.engine else sorted(NEEDS):
        version = newest(engine) if options.newest else options.version
        if options.files:
            title, files = f"{engine} in {options.files}", options.files
        elif version:
            title, files = f"{engine} {version}", versions.fetch(engine, version)
        else:
            installed = environment(engine)
            title, files = f"{engine} {installed.recipe.version}", installed.site_packages
        found.append(tell(engine, title, files))
    return int(any(found))


if __name__ == "__main__":
    sys.path.append(str(CHECKOUT / "scripts"))
    import plainly

    plainly.run(main)

"""Import the real prefix caches of any SGLang version from its files alone.

`serve(root, version)` makes `sglang.*` importable from `root` (see scripts/engines/versions.py).
The modules named in REAL are executed; every other `sglang.*` module is an empty stand-in, as in
vllm_files. `sglang/__init__.py` never runs.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

from vllm_files import stand_in

REAL = (
    *("sglang.srt.mem_cache.radix_cache", "sglang.srt.mem_cache.base_prefix_cache"),
    *("sglang.srt.mem_cache.evict_policy", "sglang.srt.mem_cache.cache_init_params"),
    *("sglang.srt.mem_cache.utils", "sglang.srt.mem_cache.events"),
    "sglang.srt.mem_cache.session_radix_cache",
    *("sglang.srt.mem_cache.unified_radix_cache", "sglang.srt.mem_cache.unified_cache"),
    *("sglang.srt.mem_cache.rust_tree_core", "sglang.srt.mem_cache.hicache_storage"),
    *("sglang.srt.mem_cache.unified_cache_components", "sglang.srt.mem_cache.flush_cache"),
    *("sglang.srt.disaggregation.kv_events", "sglang.srt.environ"),
    *("sglang.srt.managers.scheduler", "sglang.srt.utils.rank_consensus_checker"),
    "sglang.srt.rust_extensions",
)
"""Modules and packages that are executed."""


class Files(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `sglang` and all below it, and nothing else."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find_spec(self, name: str, *_: object) -> Any:
        if name.partition(".")[0] != "sglang":
            return None
        place = self.root.joinpath(*name.split("."))
        if any(name == real or name.startswith(f"{real}.") for real in REAL):
            return self._real(name, place)
        return self._stand_in(name, place)

    def _real(self, name: str, place: Path) -> Any:
        inside = [str(place)] if place.is_dir() else None
        compiled = sorted(place.parent.glob(f"{place.name}.*.so"))
        file = place / "__init__.py" if inside else (compiled or [place.with_suffix(".py")])[0]
        if not file.exists():
            return self._stand_in(name, place)
        return importlib.util.spec_from_file_location(name, file, submodule_search_locations=inside)

    def _stand_in(self, name: str, place: Path) -> Any:
        spec = importlib.machinery.ModuleSpec(name, self, is_package=True)
        spec.submodule_search_locations = [str(place)]
        return spec

    def create_module(self, spec: Any) -> types.ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        vars(module).update(_FILL.get(module.__name__, {}))


class _Module(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = stand_in(name)
        setattr(self, name, value)
        return value


class NoSessions:
    """Streaming sessions that never claim a request."""

    def __init__(self, *_: object, **__: object) -> None:
        self.slots: dict[str, object] = {}

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


_ONE_SHARD = {"page_interleave_shard_size": lambda _: 1}
_FILL: dict[str, dict[str, Any]] = {
    "sglang.srt.utils.common": {"ceil_align": lambda value, step: -(-value // step) * step},
    "sglang.srt.session.streaming_session": {"StreamingSession": NoSessions},
    "sglang.srt.mem_cache.allocator.page_interleave": _ONE_SHARD,
    "sglang.srt.mem_cache.allocator.swa": {"is_swa_req_ring": lambda _: False},
}


def serve(root: Path, version: str) -> None:
    """Let `import sglang...` find the files below `root` from now on."""
    if "sglang" in sys.modules:
        raise RuntimeError("sglang has been imported already in this process")
    sys.meta_path.insert(0, Files(root))
    sglang = __import__("sglang")
    sglang.__version__ = version

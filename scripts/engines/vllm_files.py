"""Import the real scheduler and block manager of any vLLM version from its Python files alone.

`serve(root)` makes `vllm.*` importable from `root` (see versions.py). The modules
named in REAL are executed; every other `vllm.*` module is an empty stand-in whose names are
classes that are false, callable, subscriptable and usable as a base. `vllm/__init__.py` never runs.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import logging
import sys
import types
from pathlib import Path
from typing import Any

REAL = (
    *("vllm.v1.core", "vllm.v1.hisparse", "vllm.v1.kv_hints", "vllm.v1.request"),
    *("vllm.v1.kv_cache_interface", "vllm.v1.kv_cache_spec_registry", "vllm.v1.kv_cache_layout"),
    *("vllm.v1.outputs", "vllm.v1.utils", "vllm.v1.engine", "vllm.v1.metrics.stats"),
    *("vllm.distributed.kv_events", "vllm.utils.math_utils", "vllm.utils.hashing"),
    "vllm.utils.collection_utils",
)
"""Modules and packages that are executed. Of `vllm.v1.engine` only the package itself."""


class _Lax(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return stand_in(name)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        # As a decorator it leaves the class or function alone.
        if len(args) == 1 and not kwargs and isinstance(args[0], (type, types.FunctionType)):
            return args[0]
        return super().__call__(*args, **kwargs)

    def __getitem__(cls, _: object) -> Any:
        return cls

    def __iter__(cls) -> Any:
        return iter(())

    def __contains__(cls, _: object) -> bool:
        return False

    def __bool__(cls) -> bool:
        return False


class _Absent(metaclass=_Lax):
    """What an object of a module that is not executed looks like."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Any arguments will do."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return stand_in(name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return args[0] if len(args) == 1 and callable(args[0]) and not kwargs else _Absent()

    def __bool__(self) -> bool:
        return False

    def __iter__(self) -> Any:
        return iter(())


def stand_in(name: str) -> Any:
    """A class for a name of which nothing is known."""
    return _Lax(name, (_Absent,), {})


class _Module(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if self.__name__ == "vllm.envs":
            return None  # an environment variable that is not set
        value = stand_in(name)
        setattr(self, name, value)
        return value


class Files(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `vllm` and all below it, and nothing else."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find_spec(self, name: str, *_: object) -> Any:
        if name.partition(".")[0] != "vllm":
            return None
        place = self.root.joinpath(*name.split("."))
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if _is_real(name) and file.exists():
            inside = [str(place)] if place.is_dir() else None
            return importlib.util.spec_from_file_location(
                name, file, submodule_search_locations=inside
            )
        spec = importlib.machinery.ModuleSpec(name, self, is_package=True)
        spec.submodule_search_locations = [str(place)]
        return spec

    def create_module(self, spec: Any) -> types.ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        fill = _FILL.get(module.__name__)
        if fill is not None:
            vars(module).update(fill())


def _is_real(name: str) -> bool:
    if name.startswith("vllm.v1.engine."):
        return False
    return any(name == real or name.startswith(f"{real}.") for real in REAL)


def _logger() -> dict[str, Any]:
    class Logger(logging.LoggerAdapter):  # type: ignore[type-arg]
        def __getattr__(self, name: str) -> Any:
            return getattr(self.logger, name.removesuffix("_once"))

    return {"init_logger": lambda name: Logger(logging.getLogger(name))}


def _utils() -> dict[str, Any]:
    # Needed up to 0.11, where these live in vllm/utils/__init__.py among compiled imports.
    import hashlib
    import pickle

    def sha256(value: object) -> bytes:
        return hashlib.sha256(pickle.dumps(value, 5)).digest()

    return {
        "cdiv": lambda a, b: -(-a // b),
        "round_down": lambda a, b: a // b * b,
        "sha256": sha256,
        "sha256_cbor": sha256,
        "sha256_cbor_64bit": sha256,
        "length_from_prompt_token_ids_or_embeds": lambda ids, embeds: len(ids or embeds),
        "GiB_bytes": 1 << 30,
    }


def _structured_output() -> dict[str, Any]:
    nothing = types.SimpleNamespace(from_sampling_params=lambda _: None)
    return {"StructuredOutputRequest": nothing}


_FILL = {
    "vllm.v1.structured_output.request": _structured_output,
    "vllm.logger": _logger,
    "vllm.utils": _utils,
    "vllm.envs": lambda: {"VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES": True},
}


def serve(root: Path, version: str) -> None:
    """Let `import vllm...` find the files below `root` from now on."""
    if "vllm" in sys.modules:
        raise RuntimeError("vllm has been imported already in this process")
    sys.meta_path.insert(0, Files(root))
    # Imported first, so that `from vllm import envs` finds the module and not a stand-in.
    vllm = __import__("vllm.envs")
    vllm.__version__ = version

"""Run a callback as soon as a module has been imported, without importing it ourselves.

    when_imported("vllm.v1.core.sched.scheduler", "contextpilot_hooks.vllm:attach")

The callback is a function or "module:function" (resolved only when it is needed) and gets the
module. It runs once, at once when the module is there already, outside every lock; what it raises
is logged as one WARNING and never reaches the import. Registering the same pair twice is one
registration. `attached(patches)` keeps a PatchSet so that `reset()` undoes everything of ours.

Imports nothing but builtins: it is loaded in every interpreter that starts with
CONTEXTPILOT_INDEX_URL set.
"""

from __future__ import annotations

import sys
from _thread import RLock, get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any, Protocol, TypeAlias

    Callback: TypeAlias = str | Callable[[ModuleType], object]

    class Undoable(Protocol):
        """Something attached to a host, for example a PatchSet."""

        def undo(self) -> object: ...


class _Loader:
    """A module's own loader, followed by our callbacks. Everything else is the loader's."""

    def __init__(self, loader: Any, registry: _Registry) -> None:
        self.contextpilot_loader = loader
        self.contextpilot_registry = registry

    def __getattr__(self, name: str) -> Any:
        if name.startswith("contextpilot_"):
            raise AttributeError(name)
        return getattr(self.contextpilot_loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        create = getattr(self.contextpilot_loader, "create_module", None)
        return create(spec) if create is not None else None

    def exec_module(self, module: ModuleType) -> None:
        loader = self.contextpilot_loader
        if module.__spec__ is not None:
            module.__spec__.loader = loader
        module.__loader__ = loader
        loader.exec_module(module)
        self.contextpilot_registry.fire(module)


class _Finder:
    """Finds what the other finders find, and wraps the loader of awaited modules."""

    def __init__(self, registry: _Registry) -> None:
        self._registry = registry
        self._busy: set[tuple[int, str]] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self._registry.waiting:
            return None
        key = (get_ident(), name)
        if key in self._busy:
            return None
        self._busy.add(key)
        try:
            spec = self._search(name, path, target)
        finally:
            self._busy.discard(key)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _Loader(spec.loader, self._registry)  # type: ignore[assignment]
        return spec

    def _search(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec: ModuleSpec | None = find(name, path, target)
            if spec is not None:
                return spec
        return None


class _Registry:
    """The one process-wide state of the hooks; every change is made under its lock."""

    def __init__(self) -> None:
        self.waiting: dict[str, list[Callback]] = {}
        self._done: set[tuple[str, Callback]] = set()
        self._patches: list[Undoable] = []
        self._lock = RLock()
        self._finder = _Finder(self)

    def add(self, name: str, callback: Callback) -> None:
        with self._lock:
            known = self.waiting.get(name, [])
            if (name, callback) in self._done or callback in known:
                return
            self.waiting[name] = [*known, callback]
            if self._finder not in sys.meta_path:
                sys.meta_path.insert(0, self._finder)
        module = sys.modules.get(name)
        if module is not None:
            self.fire(module)

    def fire(self, module: ModuleType) -> None:
        name = module.__name__
        with self._lock:
            callbacks = self.waiting.pop(name, [])
            self._done.update((name, callback) for callback in callbacks)
        for callback in callbacks:
            _call(callback, module)

    def keep(self, patches: Undoable) -> None:
        with self._lock:
            self._patches.append(patches)

    def reset(self) -> None:
        with self._lock:
            self.waiting.clear()
            self._done.clear()
            patches, self._patches = self._patches, []
            if self._finder in sys.meta_path:
                sys.meta_path.remove(self._finder)
        for patch in reversed(patches):
            patch.undo()


def _call(callback: Callback, module: ModuleType) -> None:
    try:
        if isinstance(callback, str):
            owner, _, function = callback.partition(":")
            callback = getattr(__import__(owner, fromlist=[function]), function)
        callback(module)  # type: ignore[operator]
    except Exception as error:
        import logging

        logging.getLogger("contextpilot.hooks").warning(
            "contextpilot: no hook in %s: %s: %s", module.__name__, type(error).__name__, error
        )


_registry = _Registry()


def when_imported(name: str, callback: Callback) -> None:
    """Call `callback(module)` once module `name` has been imported. Idempotent, thread-safe."""
    _registry.add(name, callback)


def attached(patches: Undoable) -> None:
    """Remember `patches`, so that `reset` can undo them."""
    _registry.keep(patches)


def reset() -> None:
    """Forget all callbacks and undo all patches, as if nothing had ever been registered."""
    _registry.reset()

"""Wrap functions of a host library: check first, set all or none, undo exactly.

    patches = PatchSet("vLLM 0.32.0")
    patches.wrap(Scheduler, "add_request", after(guard, observe), parameters=("request",))
    patches.wrap(BlockPool, "reset_prefix_cache", after(guard, reset))
    patches.apply()     # nothing is set before this line
    patches.undo()

`wrap` raises NotSupported when the name is missing, is no plain function, lacks one of the
parameters, or is already wrapped by us; then nothing has been changed. A replacement takes
`(self, *args, **kwargs)`, calls the original exactly once with what it got and returns its result.
"""

from __future__ import annotations

import functools
import inspect
import logging
import types
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from .guard import Guard

logger = logging.getLogger("contextpilot.hooks")

Function = Callable[..., Any]
Observe = Callable[[Any, Any, tuple[Any, ...], dict[str, Any]], None]
_MARK = "__contextpilot_hook__"


class NotSupported(RuntimeError):  # noqa: N818 - a verdict on the host, not an error of ours
    """The host does not look as we know it; the message says where."""


class _Patch(NamedTuple):
    owner: Any
    name: str
    original: Function
    ours: Function
    inherited: bool


class PatchSet:
    """Wrappers that are attached and removed together. Not thread-safe."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.applied = False
        self._patches: list[_Patch] = []

    def wrap(
        self,
        owner: Any,
        name: str,
        make: Callable[[Function], Function],
        parameters: tuple[str, ...] = (),
    ) -> None:
        """Stage `make(original)` for `owner.name` (a class's method or a module's function).

        Raises NotSupported; sets nothing.
        """
        original = resolve(owner, name, parameters)
        ours = make(original)
        setattr(ours, _MARK, self.title)
        self._patches.append(_Patch(owner, name, original, ours, name not in vars(owner)))

    def wrap_bound(
        self,
        instance: Any,
        name: str,
        make: Callable[[Function], Function],
        parameters: tuple[str, ...] = (),
    ) -> None:
        """Like `wrap`, for one instance alone: `make` gets and returns a bound method."""
        if name in getattr(instance, "__dict__", {}):
            raise NotSupported(f"{type(instance).__qualname__}.{name} is set on the instance")
        resolve(type(instance), name, parameters)
        original = getattr(instance, name)
        self._patches.append(_Patch(instance, name, original, make(original), True))

    def apply(self) -> None:
        """Set all staged wrappers. Idempotent."""
        if self.applied:
            return
        self.applied = True
        for patch in self._patches:
            setattr(patch.owner, patch.name, patch.ours)
            logger.debug("%s: wrapped %s", self.title, patch.original.__qualname__)

    def undo(self) -> bool:
        """Restore what is still ours, last first. Idempotent.

        Returns False when somebody wrapped a function after us: that one stays in place.
        """
        complete = True
        while self.applied and self._patches:
            patch = self._patches.pop()
            if vars(patch.owner).get(patch.name) is not patch.ours:
                logger.warning(
                    "contextpilot: %s: %s was wrapped by somebody else after us and stays wrapped",
                    self.title,
                    patch.original.__qualname__,
                )
                complete = False
            elif patch.inherited:
                delattr(patch.owner, patch.name)
            else:
                setattr(patch.owner, patch.name, patch.original)
        self.applied = False
        return complete


def resolve(owner: Any, name: str, parameters: tuple[str, ...] = ()) -> Function:
    """The plain function `owner.name`, checked to have `parameters`. Raises NotSupported."""
    where = f"{getattr(owner, '__module__', '')}.{getattr(owner, '__name__', owner)}.{name}"
    found = inspect.getattr_static(owner, name, None)
    if found is None:
        raise NotSupported(f"{where} is missing")
    if not isinstance(found, types.FunctionType):
        raise NotSupported(f"{where} is a {type(found).__name__}, not a plain function")
    if getattr(found, _MARK, None) is not None:
        raise NotSupported(f"{where} is already wrapped by contextpilot")
    signature = inspect.signature(found)
    missing = [wanted for wanted in parameters if wanted not in signature.parameters]
    if missing:
        raise NotSupported(f"{where}{signature} lacks the parameter {', '.join(missing)}")
    return found


def argument(function: Function, name: str) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
    """A reader of one argument of a method call: `read(args, kwargs)`, `args` without self.

    `function` may be a method of a class or a bound one.

    Raises NotSupported when the method has no such parameter, and at reading time KeyError when
    the caller left it to its default.
    """
    names = list(inspect.signature(function).parameters)
    if name not in names:
        raise NotSupported(f"{function.__qualname__} lacks the parameter {name}")
    position = names.index(name) - (not inspect.ismethod(function))

    def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return args[position] if position < len(args) else kwargs[name]

    return read


class Attachment:
    """Undoes what was attached: the class first, then the living schedulers.

    `watches` holds weakly what follows one scheduler each and has an `undo` of its own.
    """

    def __init__(self, patches: PatchSet) -> None:
        self.patches = patches
        self.watches: weakref.WeakSet[Any] = weakref.WeakSet()

    def undo(self) -> None:
        self.patches.undo()
        for watch in list(self.watches):
            watch.undo()


def after(guard: Guard, observe: Observe) -> Callable[[Function], Function]:
    """A maker for PatchSet.wrap: original first, then `observe(self, result, args, kwargs)`.

    An exception of the original passes through and skips `observe`; one of `observe` goes to the
    guard, never to the caller.
    """

    def make(original: Function) -> Function:
        @functools.wraps(original)
        def contextpilot_after(self: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(self, *args, **kwargs)
            if guard.active:
                try:
                    observe(self, result, args, kwargs)
                except Exception as error:
                    guard.failed(error)
            return result

        return contextpilot_after

    return make


def after_bound(
    guard: Guard, observe: Callable[[Any, tuple[Any, ...], dict[str, Any]], None]
) -> Callable[[Function], Function]:
    """A maker for PatchSet.wrap_bound: original first, then `observe(result, args, kwargs)`."""

    def make(original: Function) -> Function:
        @functools.wraps(original)
        def contextpilot_after(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if guard.active:
                try:
                    observe(result, args, kwargs)
                except Exception as error:
                    guard.failed(error)
            return result

        return contextpilot_after

    return make

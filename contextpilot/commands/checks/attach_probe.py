"""Asks the hooks whether they would attach to an installed engine, without importing the engine.

    python -m contextpilot.commands.checks.attach_probe vllm 0.32.0

The engine's classes are rebuilt from its sources as empty shells with the same signatures; the
hooks' own checks then run on them. Runs in a process of its own, since it patches and fills
sys.modules. Prints a Verdict as JSON.
"""

from __future__ import annotations

import ast
import json
import logging
import re
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from contextpilot.engines.registry import kind_named

_KEPT = {"property", "staticmethod", "classmethod"}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Verdict(NamedTuple):
    """What the hooks say of an engine.

    Attributes:
        refused: why they would not attach; empty when they would.
        tested: the versions that they were tested with.
        is_tested: whether this one lies within.
    """

    refused: str
    tested: str
    is_tested: bool


Spans = dict[tuple[str, str], tuple[tuple[int, ...], tuple[int, ...]]]


def judge(engine: str, version: str) -> Verdict:
    """Return what the hooks say. Raises ImportError when engine or hooks are not there."""
    hooks = import_module(f"contextpilot_hooks.{engine}")
    root = _root(engine)
    package = sys.modules[engine] = ModuleType(engine)
    package.__dict__["__version__"] = version
    modules = kind_named(engine).hooked_modules
    for name in modules:
        if _file(root, name).is_file():
            sys.modules[name] = shell(_file(root, name), name)
    said = _Listener()
    logging.getLogger("contextpilot.hooks").addHandler(said)
    scheduler = sys.modules.get(modules[0])
    if scheduler is not None:
        hooks.attach(scheduler)
    refused = " ".join(said.texts) if scheduler else f"{modules[0]} is missing"
    if hasattr(hooks, "KNOWN"):
        return _judge_cache(hooks.KNOWN, root, _numbers(version), refused)
    first, last = map(_numbers, hooks.TESTED.split(" to "))
    return Verdict(refused, hooks.TESTED, first <= _numbers(version) <= last)


def shell(path: Path, name: str) -> ModuleType:
    """Return a module with the classes and functions of a source file, all of them empty."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kept = [_emptied(node) for node in tree.body if isinstance(node, (*_FUNCTIONS, ast.ClassDef))]
    module = ModuleType(name)
    code = ast.fix_missing_locations(ast.Module(kept, []))
    exec(compile(code, str(path), "exec"), module.__dict__)
    return module


def _judge_cache(known: Spans, root: Path, numbers: tuple[int, ...], refused: str) -> Verdict:
    """Ask a hook that goes by the class of the prefix cache, and by the versions that have it."""
    first = min(span[0] for span in known.values())
    last = max(span[1] for span in known.values())
    tested = f"{_dotted(first)} to {_dotted(last)}"
    for (module, name), span in known.items():
        if span[0] <= numbers <= span[1]:
            path = _file(root, module)
            is_there = path.is_file() and hasattr(shell(path, module), name)
            return Verdict(refused or ("" if is_there else f"no {module}.{name}"), tested, True)
    return Verdict(refused or f"its prefix cache is known from {tested}", tested, False)


def _emptied(node: ast.stmt) -> ast.stmt:
    if isinstance(node, ast.ClassDef):
        inner = [_emptied(child) for child in node.body if isinstance(child, _FUNCTIONS)]
        node.bases, node.keywords, node.decorator_list = [], [], []
        node.body = inner or [ast.Pass()]
        return node
    assert isinstance(node, _FUNCTIONS)
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    for argument in filter(None, [*every, arguments.vararg, arguments.kwarg]):
        argument.annotation = None
    arguments.defaults = [ast.Constant(None) for _ in arguments.defaults]
    arguments.kw_defaults = [default and ast.Constant(None) for default in arguments.kw_defaults]
    node.returns = None
    node.body = [ast.Pass()]
    node.decorator_list = [
        mark for mark in node.decorator_list if isinstance(mark, ast.Name) and mark.id in _KEPT
    ]
    return node


class _Listener(logging.Handler):
    """Keeps what the hooks complain of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage().partition("; ")[0])


def _root(engine: str) -> Path:
    spec = find_spec(engine)
    folders = spec.submodule_search_locations if spec is not None else None
    if not folders:
        raise ImportError(f"{engine} has no folder of sources")
    return Path(next(iter(folders)))


def _file(root: Path, module: str) -> Path:
    return root.joinpath(*module.split(".")[1:]).with_suffix(".py")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(judge(*sys.argv[1:])._asdict()))

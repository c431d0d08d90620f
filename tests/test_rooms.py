"""Who imports whom: every folder of the library, the inner rooms of the server too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import contextpilot

ROOT = Path(contextpilot.__file__).parent
HOOKS = ROOT.parent / "hooks" / "contextpilot_hooks"

ROOMS = [
    "errors http progress tables fields tokens renamed whose",
    "images",
    "block",
    "radix",
    "paths named",
    "held",
    "index",
    "plan",
    "dedup prompt.messages prompt.citations prompt.annotate explain",
    "budget options prompt.extract",
    "prompt prompt.apis namespace",
    "planning engines sync.events",
    "jobs sync.sources prompt.conversation",
    "sync remote",
    "pilot default stream endpoint sent kv_listening reordered arguments awaited openai warming",
    "install_hook llama_server client integrations",
    "server.settings server.errors server.offload server.request_body server.event_lane"
    " server.plain_path server.one_protocol server.protocol server.static server.older_names",
    "server.variables",
    "server.observe server.conversations",
    "server.pool",
    "server.service",
    "server.index_api server.proxy",
    "server.dashboard server.schema_page",
    "server.entry server.garbage server.greeting",
    "server.app",
    "server.run server",
    "agents savings",
    "bench commands commands.checks",
    "cli __main__",
]
"""A room imports from lines before its own, and from its own line; the longest name counts."""

LEVELS = {room: level for level, rooms in enumerate(ROOMS) for room in rooms.split()}
MODULES = {
    ".".join(source.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): source
    for source in ROOT.rglob("*.py")
    if source != ROOT / "__init__.py"
}


def imported_names(source: Path, package: tuple[str, ...]) -> Iterator[str]:
    """Absolute names of what `source` imports, inside functions and for types too."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, *filter(None, [node.module])))
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def imported_modules(module: str) -> set[str]:
    """Modules of this library that a module of it imports, but for the package's own names."""
    source = MODULES[module]
    package = ("contextpilot", *source.relative_to(ROOT).parts[:-1])
    found = set()
    for name in imported_names(source, package):
        inner = name.removeprefix("contextpilot.")
        if inner != name:
            known = [part for part in (inner, inner.rpartition(".")[0]) if part in MODULES]
            found.update(known[:1])
    return found - {module}


def room(module: str) -> str:
    """The room that a module belongs to."""
    name = module
    while name not in LEVELS:
        name, _, _ = name.rpartition(".")
        assert name, f"{module} belongs to no room"
    return name


def test_a_room_imports_only_from_rooms_before_it() -> None:
    arrows_upwards = [
        f"{module} imports {name}"
        for module in MODULES
        for name in imported_modules(module)
        if LEVELS[room(name)] > LEVELS[room(module)]
    ]
    assert not arrows_upwards


def test_nothing_imports_in_a_circle() -> None:
    modules = {module: imported_modules(module) for module in MODULES}
    assert sum(map(len, modules.values())) > len(modules)
    TopologicalSorter(modules).prepare()
    rooms: dict[str, set[str]] = {}
    for module, imported in modules.items():
        rooms.setdefault(room(module), set()).update(map(room, imported))
    TopologicalSorter({name: others - {name} for name, others in rooms.items()}).prepare()


@pytest.mark.slow
def test_library_and_hooks_share_nothing() -> None:
    for source in ROOT.rglob("*.py"):
        assert not any("contextpilot_hooks" in name for name in imported_names(source, ()))
    for source in HOOKS.rglob("*.py"):
        names = imported_names(source, ("contextpilot_hooks",))
        assert not any(name.split(".")[0] == "contextpilot" for name in names)

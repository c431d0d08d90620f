"""Draws which room of the library imports which, and checks sizes: python scripts/draw_imports.py

Prints a Mermaid graph of the rooms of tests/test_rooms.py, as grimp finds their imports, without
the arrows that follow from others; then any arrow upwards, any circle, and the sizes of files and
functions. Exits with 1 if an arrow points upwards, there is a circle, or something is too large.
Needs `pip install '.[dev]'`.
"""

from __future__ import annotations

import argparse
import ast
import statistics
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from test_rooms import LEVELS, room  # noqa: E402

MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_P90_LINES = 400, 60, 25
Graph = dict[str, set[str]]


def module_graph() -> Graph:
    """Return what each module imports, without the package's own names."""
    import grimp  # pip install grimp; asked for when it is needed only

    graph = grimp.build_graph("contextpilot")
    found = {}
    for module in graph.modules - {"contextpilot"}:
        imported = graph.find_modules_directly_imported_by(module) - {"contextpilot"}
        found[_short(module)] = {_short(name) for name in imported}
    return found


def room_graph(modules: Graph) -> Graph:
    """Return what each room imports from other rooms."""
    rooms: Graph = {}
    for module, imported in modules.items():
        rooms.setdefault(room(module), set()).update(map(room, imported))
    return {name: others - {name} for name, others in rooms.items()}


def without_detours(rooms: Graph) -> Graph:
    """Return the graph without arrows between rooms that are joined by other arrows too."""
    return {
        name: {
            other
            for other in others
            if not any(other in _reached(rooms, third) for third in others - {other})
        }
        for name, others in rooms.items()
    }


def _reached(rooms: Graph, start: str) -> set[str]:
    seen, waiting = set[str](), [start]
    while waiting:
        new = rooms[waiting.pop()] - seen
        seen |= new
        waiting += new
    return seen


def faults(modules: Graph) -> Iterator[str]:
    """Yield arrows upwards and a circle, if there is one."""
    for module, imported in sorted(modules.items()):
        for name in sorted(imported):
            if LEVELS[room(name)] > LEVELS[room(module)]:
                yield f"upwards: {module} imports {name}"
    try:
        TopologicalSorter(modules).prepare()
    except CycleError as error:
        yield f"a circle: {' -> '.join(error.args[1])}"


def sizes(*folders: Path) -> Iterator[str]:
    """Yield what is too large; the last line sums up."""
    files, functions = [], []
    for source in sorted(path for folder in folders for path in folder.rglob("*.py")):
        text = source.read_text()
        files.append((text.count("\n"), str(source.relative_to(ROOT))))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                functions.append((length, f"{source.relative_to(ROOT)}:{node.lineno} {node.name}"))
    yield from (f"too long: {name}, {n} lines" for n, name in files if n > MAX_FILE_LINES)
    yield from (f"too long: {name}, {n} lines" for n, name in functions if n > MAX_FUNCTION_LINES)
    lengths = [length for length, _ in functions]
    p90 = statistics.quantiles(lengths, n=10)[-1]
    if p90 > MAX_P90_LINES:
        yield f"too long: one function in ten has more than {p90:.0f} lines"
    yield (
        f"{len(files)} files, longest {max(files)[0]} lines; {len(functions)} functions, "
        f"median {statistics.median(lengths):.0f}, p90 {p90:.0f}, longest {max(functions)[0]} lines"
    )


def _short(module: str) -> str:
    return module.removeprefix("contextpilot.")


def main() -> int:
    """Print the graph, the faults and the sizes."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    modules = module_graph()
    drawn = without_detours(room_graph(modules))
    print("graph BT")
    for name, others in sorted(drawn.items()):
        for other in sorted(others):
            print(f"  {name.replace('.', '/')} --> {other.replace('.', '/')}")
    found = list(faults(modules))
    *large, summary = sizes(ROOT / "contextpilot", ROOT / "hooks")
    print()
    for line in (*found, *large):
        print(line)
    print(f"{len(modules)} modules in {len(drawn)} rooms, {len(found)} faults; {summary}")
    return 1 if found or large else 0


if __name__ == "__main__":
    import plainly

    plainly.run(main)

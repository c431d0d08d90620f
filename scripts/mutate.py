"""Changes single places of the code and runs the room's tests: which changes does no test notice?

    python scripts/mutate.py [ROOM ...] [--number 50] [--seed 1] [--only FILE:LINE] [--quick]

ROOM: index, plan, ledger, sync, extract; default: all. Of all the places in functions that can be
changed (comparisons, and/or, +/-, numbers, conditions, what is returned, statements that are left
out) a random sample is tried, each in a process of its own: no file is written. A change that the
room's quick tests let pass meets its slow ones, too, and what they let pass is printed. Needs the
packages of .[test]. Mutants that change nothing a caller could see count as survivors as well.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import importlib.machinery
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from machine import machine_line

CHECKOUT = Path(__file__).resolve().parents[1]


class Room(NamedTuple):
    """What is changed, and the tests that should notice: quick ones first, then the rest."""

    files: tuple[str, ...]
    tests: tuple[str, ...]
    more: tuple[str, ...] = ()


HOOKS = "hooks/contextpilot_hooks/"
ROOMS = {
    "index": Room(
        tuple(f"contextpilot/{name}.py" for name in ("index", "held", "named", "paths", "radix")),
        ("tests/test_index.py", "tests/test_index_points.py"),
        ("tests/test_namespace.py", "tests/sync/test_belief_machine.py", "tests/test_pilot.py"),
    ),
    "plan": Room(("contextpilot/plan/",), ("tests/plan",), ("tests/test_determinism.py",)),
    "ledger": Room(
        tuple(f"{HOOKS}{name}.py" for name in ("ledger", "blocks", "chain", "points", "prefix")),
        tuple(f"tests/hooks/test_{name}.py" for name in ("ledger", "prefix", "points", "chain")),
        ("tests/hooks/test_sglang.py", "tests/sync/test_belief_machine.py"),
    ),
    "sync": Room(
        (
            *("contextpilot/sync/events.py", "contextpilot/sync/receiver.py"),
            *(
                f"contextpilot/sync/sources/{name}.py"
                for name in ("base", "request_events", "llama_slots", "slot_contents")
            ),
        ),
        tuple(
            f"tests/sync/test_{name}.py"
            for name in ("events", "receiver", "owners", "slots", "slot_bounds", "sources")
        ),
        ("tests/sync/test_belief_machine.py", "tests/fuzz"),
    ),
    "receiver": Room(
        ("contextpilot/sync/receiver.py", "contextpilot/server/pool/pool_receiver.py"),
        tuple(f"tests/sync/test_{name}.py" for name in ("receiver", "receiver_parting", "owners")),
        ("tests/sync", "tests/server/test_membership.py"),
    ),
    "limits": Room(
        (
            *(f"contextpilot/server/{name}.py" for name in ("protocol", "request_body", "entry")),
            *(f"contextpilot/server/{name}.py" for name in ("one_protocol", "plain_path")),
            *(f"contextpilot/server/proxy/{name}.py" for name in ("controls", "loops")),
            "contextpilot/http/callers.py",
        ),
        (
            *(f"tests/server/test_{name}.py" for name in ("strangers", "one_protocol", "fuzz")),
            *(f"tests/server/test_{name}.py" for name in ("slow_clients", "pipelined", "loops")),
            "tests/http/test_callers.py",
        ),
        tuple(f"tests/server/test_{name}.py" for name in ("json_parts", "server_bounds")),
    ),
    "extract": Room(("contextpilot/prompt/extract/",), ("tests/prompt",), ("tests/corpus",)),
}
COMPARISONS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult}
CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}
LEFT_OUT = (ast.Raise, ast.Assert, ast.JoinedStr, ast.AnnAssign, ast.Global, ast.Nonlocal)
"""What stands in these is not changed: words of errors, types."""
EARLY = "ignore::pytest.PytestAssertRewriteWarning"
"""What is imported before pytest runs."""
PASSED, LEAST_TIMEOUT_S = 0, 60.0
SURVIVES = "survives"


class Mutant(NamedTuple):
    """One change: where, and what it was and is."""

    path: Path
    line: int
    was: str
    now: str
    code: Any

    def __str__(self) -> str:
        return f"{self.path.relative_to(CHECKOUT)}:{self.line}: {self.was}  ->  {self.now}"


# -- changes -------------------------------------------------------------------------------------


def mutants_of(path: Path) -> list[Callable[[], Mutant]]:
    """Return what can be changed in a file, each made when it is asked for."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    return [
        lambda at=at, number=number: _made(path, source, tree, at, number)
        for at, node in enumerate(_nodes(tree))
        for number in range(len(list(_changes(node))))
    ]


def _made(path: Path, source: str, tree: ast.Module, at: int, number: int) -> Mutant:
    changed = copy.deepcopy(tree)
    node = _nodes(changed)[at]
    was, line = ast.get_source_segment(source, node) or "", node.lineno
    new = list(_changes(node))[number]
    for parent in ast.walk(changed):
        for name, value in ast.iter_fields(parent):
            if value is node:
                setattr(parent, name, new)
            elif isinstance(value, list):
                value[:] = [new if item is node else item for item in value]
    ast.fix_missing_locations(changed)
    return Mutant(path, line, _short(was), _short(ast.unparse(new)), compile(changed, path, "exec"))


def _short(text: str) -> str:
    return " ".join(text.split())[:70]


def _nodes(tree: ast.Module) -> list[ast.AST]:
    """Return the nodes within functions, but for those that say no more than words and types."""
    found: list[ast.AST] = []
    stack: list[tuple[ast.AST, bool]] = [(tree, False)]
    while stack:
        node, inside = stack.pop()
        if inside:
            found.append(node)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            stack += [(child, True) for child in _without_docstring(node.body)]
        elif not isinstance(node, LEFT_OUT) and not _logs(node) and not _is_strict(node):
            stack += [(child, inside) for child in ast.iter_child_nodes(node)]
    return found


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0]
    is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return body[1:] if is_text else body


def _logs(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and ast.unparse(node).startswith("logger.")


def _is_strict(node: ast.AST) -> bool:
    return isinstance(node, ast.keyword) and node.arg == "strict"  # of zip: an assertion


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what may stand in the place of a node."""
    if isinstance(node, ast.Compare):
        for at, kind in enumerate(node.ops):
            ops = [*node.ops[:at], COMPARISONS[type(kind)](), *node.ops[at + 1 :]]
            yield ast.Compare(node.left, ops, node.comparators)
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield ast.BoolOp(other, node.values)
    elif isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in ARITHMETIC:
        other_op = ARITHMETIC[type(node.op)]()
        if isinstance(node, ast.BinOp):
            yield ast.BinOp(node.left, other_op, node.right)
        else:
            yield ast.AugAssign(node.target, other_op, node.value)
            yield ast.Pass()
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
        is_flag = isinstance(node.value, bool)
        yield ast.Constant(not node.value if is_flag else node.value + 1)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
        yield ast.Call(ast.Name(CALLS[node.func.id], ast.Load()), node.args, node.keywords)
    elif isinstance(node, ast.Return) and node.value is not None:
        if not (isinstance(node.value, ast.Constant) and node.value.value is None):
            yield ast.Return(ast.Constant(None))
    elif isinstance(node, (ast.If, ast.While)):
        negated = copy.copy(node)
        negated.test = ast.UnaryOp(ast.Not(), node.test)
        if isinstance(node, ast.If):
            yield negated
    elif (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)) or (
        isinstance(node, ast.Assign)
        and not any(isinstance(one, (ast.Name, ast.Tuple)) for one in node.targets)
    ):
        yield ast.Pass()
    elif isinstance(node, (ast.Continue, ast.Break)):
        yield ast.Break() if isinstance(node, ast.Continue) else ast.Continue()


# -- tests ---------------------------------------------------------------------------------------


class Plugin:
    """Lets generated examples be the same in each run, and a failing one fail at once."""

    def pytest_collection(self) -> None:
        from hypothesis import Phase, settings

        known = settings.get_profile("contextpilot")
        phases = (Phase.explicit, Phase.generate)
        settings.register_profile(
            "m", known, phases=phases, max_examples=30, derandomize=True, database=None
        )
        settings.load_profile("m")


def status_of(tests: tuple[str, ...], marks: str, mutant: Mutant | None, limit_s: float) -> int:
    """Run tests in a process of its own, with a change; return its status, -1 past the limit."""
    child = os.fork()
    if child == 0:
        os.setsid()
        os._exit(_tested(tests, marks, mutant))
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -1


def _tested(tests: tuple[str, ...], marks: str, mutant: Mutant | None) -> int:
    import pytest

    silent = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silent, stream)
    if mutant is not None:
        loader, place = importlib.machinery.SourceFileLoader, str(mutant.path)
        get_code = loader.get_code

        def changed(self: Any, name: str) -> Any:
            return mutant.code if self.path == place else get_code(self, name)

        loader.get_code = changed  # type: ignore[method-assign]
    folders = dict.fromkeys(test if "." not in test else os.path.dirname(test) for test in tests)
    for folder in folders:  # some folders have helpers of one name
        chosen = [t for t in tests if t == folder or os.path.dirname(t) == folder]
        options = ["-x", "-q", "-p", "no:cacheprovider", "-m", marks, "-W", EARLY]
        status = pytest.main([*options, *chosen], plugins=[Plugin()])
        if status not in (0, 5):
            return int(status)
    return PASSED


def tried(name: str, chosen: list[Mutant], is_quick: bool) -> int:
    """Try changes of a room; return how many no test noticed."""
    room, started = ROOMS[name], time.monotonic()
    stages = [stage_of(name, room.tests, "not slow and not engine")]
    outcomes: Counter[str] = Counter()
    for mutant in chosen:
        outcome = stages[0].outcome(mutant)
        if outcome == SURVIVES and not is_quick:
            stages[1:] = stages[1:] or [stage_of(name, room.tests + room.more, "not engine")]
            outcome = stages[1].outcome(mutant)
        outcomes[outcome] += 1
        if outcome == SURVIVES:
            print(f"  {outcome}: {mutant}", flush=True)
    counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    print(f"{name}: {counts}; {(time.monotonic() - started) / 60:.0f} min", flush=True)
    return outcomes[SURVIVES]


class Stage(NamedTuple):
    """Tests to run, and for how long."""

    tests: tuple[str, ...]
    marks: str
    limit_s: float

    def outcome(self, mutant: Mutant) -> str:
        """Return what the tests say of a change."""
        status = status_of(self.tests, self.marks, mutant, self.limit_s)
        return {PASSED: SURVIVES, -1: "past the time"}.get(status, "noticed")


def stage_of(name: str, tests: tuple[str, ...], marks: str) -> Stage:
    begun = time.monotonic()
    if status_of(tests, marks, None, 3600) != PASSED:
        raise SystemExit(f"the tests of {name} fail without any change: {' '.join(tests)}")
    took = time.monotonic() - begun
    print(f"{name}: its tests take {took:.0f} s ({marks})", flush=True)
    return Stage(tests, marks, max(LEAST_TIMEOUT_S, 8 * took))


def chosen_mutants(room: Room, number: int, seed: int, only: str) -> list[Mutant]:
    paths = [CHECKOUT / name for name in room.files]
    files = [file for path in paths for file in (sorted(path.glob("*.py")) or [path])]
    makers = [maker for file in files for maker in mutants_of(file)]
    if only:
        return [mutant for maker in makers if only in str(mutant := maker())]
    chosen = random.Random(seed).sample(makers, min(number, len(makers)))
    print(f"  {len(makers)} places in {len(files)} files, {len(chosen)} tried", flush=True)
    return [maker() for maker in chosen]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=f"of {', '.join(ROOMS)}")
    parser.add_argument("--number", type=int, default=50, help="changes a room")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="changes whose line holds this, all of them")
    parser.add_argument("--quick", action="store_true", help="with the quick tests alone")
    args = parser.parse_args()
    unknown = set(args.rooms) - set(ROOMS)
    if unknown:
        parser.error(f"no room {unknown.pop()!r}: there are {', '.join(ROOMS)}")
    os.chdir(CHECKOUT)
    sys.dont_write_bytecode = True
    for name in ("hypothesis.internal.conjecture.engine", "numpy", "pytest", "scipy.sparse"):
        importlib.import_module(name)  # once, for all the processes to come
    print(machine_line("contextpilot", "pytest", "hypothesis"), flush=True)
    total, alive = 0, 0
    for name in args.rooms or ROOMS:
        chosen = chosen_mutants(ROOMS[name], args.number, args.seed, args.only)
        total, alive = total + len(chosen), alive + tried(name, chosen, args.quick)
    share = 100 * (total - alive) / max(1, total)
    print(f"score: {total - alive} of {total} changes are noticed, {share:.0f} %")
    return 0


if __name__ == "__main__":
    import plainly

    plainly.run(main)

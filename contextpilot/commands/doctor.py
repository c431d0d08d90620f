"""`contextpilot doctor`: what is installed, what is set, and what is broken."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator

from contextpilot.commands.checks import (
    attach_points,
    cached_tokens,
    engines,
    environment,
    foreign,
    hooks,
    index,
    kv_events,
    llama_server,
    packages,
)
from contextpilot.commands.checks.check import Check
from contextpilot.commands.command import Command, Outcome
from contextpilot.tables import terminal_width, wrap

CHECKS: tuple[Callable[[], Iterator[Check]], ...] = (
    environment.check_python,
    environment.check_dependencies,
    environment.check_extras,
    foreign.check_foreign,
    engines.check_engines,
    attach_points.check_attach_points,
    hooks.check_startup_files,
    hooks.check_plugins,
    llama_server.check_llama_server,
    environment.check_variables,
    index.check_index,
)
"""Each yields any number of results; one that raises counts as failed."""

_MAX_COLUMN = 0.3
"""Share of the terminal that names may take for details to stand in a column."""
_MARKS = {"ok": "ok    ", "warn": "warn  ", "fail": "FAIL  ", "absent": "-     "}


def run_checks(checks: tuple[Callable[[], Iterator[Check]], ...] = CHECKS) -> list[Check]:
    """Run all checks; an error in one becomes a failed result."""
    found: list[Check] = []
    for check in checks:
        try:
            found.extend(check())
        except Exception as error:
            found.append(_failed(check.__name__.removeprefix("check_"), error))
    return found


def _failed(name: str, error: Exception) -> Check:
    if isinstance(error, ModuleNotFoundError) and packages.is_foreign(error):
        detail, _, fix = packages.told(error).partition(": ")
        return Check(name, "fail", f"cannot be checked: {detail}", fix)
    return Check(name, "fail", f"the check itself failed: {error!r}", "report this")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine",
        action="append",
        default=[],
        metavar="URL",
        help="send this engine two short requests, to see whether it reports cached tokens; "
        "give it once per engine",
    )
    parser.add_argument(
        "--kv-events",
        action="append",
        default=[],
        metavar="URL",
        help="listen there briefly, as serve --kv-events would, to see whether events arrive",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def _run(args: argparse.Namespace) -> Outcome:
    def check_cached_tokens() -> Iterator[Check]:
        return cached_tokens.check_cached_tokens(args.engine)

    def check_kv_events() -> Iterator[Check]:
        send = (lambda: list(check_cached_tokens())) if args.engine else None
        return kv_events.check_kv_events(args.kv_events, send, args.engine)

    found = run_checks((*CHECKS, check_kv_events, check_cached_tokens))
    broken = [check for check in found if check.status == "fail"]
    status = 1 if broken else 0
    if args.json:
        checks = [check._asdict() for check in found]
        return Outcome(json.dumps({"ok": not broken, "checks": checks}, indent=2), status)
    names = ", ".join(check.name for check in broken)
    verdict = f"broken: {names}" if broken else "nothing required is broken"
    return Outcome(f"{_render(found)}\n\n{verdict}", status)


def _render(found: list[Check]) -> str:
    """Return the results as text, as wide as the terminal."""
    width, column = terminal_width(), max(len(check.name) for check in found)
    if column > _MAX_COLUMN * width:
        column = 0
    margin = " " * (len(_MARKS["ok"]) + column + 2)
    lines = []
    for check in found:
        start = f"{_MARKS[check.status]}{check.name:<{column}}  "
        lines.append(wrap(check.detail, width, start, margin))
        if check.fix and check.status in ("warn", "fail"):
            lines.append(wrap(f"fix: {check.fix}", width, margin, margin + "     "))
    return "\n".join(lines)


COMMAND = Command(
    name="doctor",
    help="show what is installed, what is set, and what is broken",
    examples=(
        "contextpilot doctor\n"
        "contextpilot doctor --json\n"
        "contextpilot doctor --engine http://127.0.0.1:30000\n"
        "contextpilot doctor --kv-events tcp://127.0.0.1:5557"
    ),
    add_arguments=_add_arguments,
    run=_run,
)

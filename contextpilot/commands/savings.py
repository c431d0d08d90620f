"""`contextpilot savings`: what sessions hold twice, what a cache spared, and what that costs."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from contextpilot.commands.command import Command, Outcome
from contextpilot.errors import CommandError, ServerError
from contextpilot.savings.prices import Prices, read_prices
from contextpilot.savings.stores import read_sessions, session_files
from contextpilot.tables import terminal_width, wrap

if TYPE_CHECKING:
    from contextpilot.savings.report import Savings  # NumPy takes a while to import

_SCHEMES = ("http://", "https://")
_NO_SESSION = (
    "no session of a known agent: Claude Code keeps them in ~/.claude/projects, Codex in "
    "~/.codex/sessions"
)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="WHERE",
        help="session files of Claude Code or Codex, folders of them, or a server's address",
    )
    parser.add_argument(
        "--prices",
        type=Path,
        metavar="FILE",
        help='JSON, prices per million tokens: {"currency": "USD", "models": {"MODEL": '
        '{"input": 3, "cached": 0.3, "written": 3.75, "output": 15}}}; MODEL is the beginning of a '
        "model's name, or default",
    )
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")


def _run(args: argparse.Namespace) -> Outcome:
    from contextpilot.savings.report import savings_lines

    prices = read_prices(args.prices) if args.prices is not None else None
    told = []
    for source in args.sources:
        is_server = source.startswith(_SCHEMES)
        counted = _server(source, prices) if is_server else _files(Path(source), prices)
        told.append((source, is_server, counted.as_dict()))
    if args.json:
        return Outcome(json.dumps({source: counts for source, _, counts in told}, indent=2))
    width, lines = terminal_width(), []
    for source, is_server, counts in told:
        lines.append(source)
        words = savings_lines(counts, is_server=is_server)
        lines += [wrap(line, width, "  ", "    ") for line in words]
    return Outcome("\n".join(lines))


def _files(path: Path, prices: Prices | None) -> Savings:
    from contextpilot.savings.report import Savings

    savings = Savings(prices)
    for file in session_files(path):
        for session in read_sessions(file):
            savings.add(session)
    if not savings.sessions:
        raise CommandError(f"{path}: {_NO_SESSION}")
    return savings


def _server(url: str, prices: Prices | None) -> Savings:
    from contextpilot.savings.report import Savings
    from contextpilot.savings.server import add_server

    savings = Savings(prices)
    try:
        add_server(savings, url, os.environ.get("CONTEXTPILOT_INDEX_TOKEN"))
    except ServerError as error:
        raise CommandError(str(error)) from None
    return savings


COMMAND = Command(
    name="savings",
    help="count repeats and cache hits in agents' sessions, and what they cost",
    examples=(
        "contextpilot savings ~/.claude/projects ~/.codex/sessions\n"
        "contextpilot savings --prices prices.json session.jsonl\n"
        "contextpilot savings http://127.0.0.1:8765"
    ),
    add_arguments=_add_arguments,
    run=_run,
)

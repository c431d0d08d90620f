"""`contextpilot simulate`: what planning would save on recorded requests. No engine needed."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from contextpilot.commands.bounds_flags import add_bounds, bounds_of
from contextpilot.commands.capacity import FORMS, resolve
from contextpilot.commands.command import Command, Outcome
from contextpilot.commands.comparison import DEFAULT_CAPACITIES, Comparison, compare, render
from contextpilot.commands.numbers import positive
from contextpilot.commands.plot import SUFFIXES, check_plot, draw
from contextpilot.commands.workload import STDIN, read_workload
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.replay import DEFAULT_WINDOW
from contextpilot.tables import terminal_width, wrap

_NOTE = (
    "Token counts are estimates: a quarter of a block's characters, and 3 for its label; a block "
    "given only by id counts 256. System prompt, question and answer are left out."
)
_HYBRID = (
    "The cache is that of a hybrid model: what a request shares with an earlier one is recomputed "
    "and kept for the next; only the modes that know evictions know that."
)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        metavar="FILE",
        help="requests as JSON Lines or JSON, gzipped or not, or as Parquet; "
        f"{STDIN} is standard input",
    )
    parser.add_argument(
        "--capacity",
        nargs="+",
        type=_capacity,
        metavar="SIZE",
        default=list(DEFAULT_CAPACITIES),
        help=f"cache sizes: {FORMS} (default: {' '.join(DEFAULT_CAPACITIES)})".replace("%", "%%"),
    )
    parser.add_argument(
        "--cache",
        choices=("full", "hybrid"),
        default="full",
        help="hybrid: as vLLM keeps it for models with sliding windows or states (Gemma, gpt-oss, "
        "Qwen3-Next) without --prefix-cache-retention-interval: what two requests share is kept "
        "for the third (default: %(default)s)",
    )
    planning = parser.add_argument_group("planning")
    planning.add_argument(
        "--window",
        type=positive,
        default=DEFAULT_WINDOW,
        metavar="N",
        help="waiting requests that are planned together (default: %(default)s)",
    )
    add_bounds(planning)
    parser.add_argument(
        "--plot",
        type=_image,
        metavar="IMAGE",
        help=f"draw the hit ratios into a file that ends in {' or '.join(SUFFIXES)}",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def _run(args: argparse.Namespace) -> Outcome:
    if args.plot is not None:
        check_plot(args.plot)
    workload = read_workload(args.file)
    bounds = bounds_of(args)
    is_sparse = args.cache == "hybrid"
    comparison = compare(workload.contexts, args.capacity, args.window, bounds, is_sparse)
    if args.plot is not None:
        draw(comparison, workload.name, args.plot)
    if args.json:
        return Outcome(_as_json(workload.name, comparison, bounds, args.cache))
    note = wrap(f"{_NOTE} {_HYBRID}" if is_sparse else _NOTE, terminal_width())
    text = f"{render(comparison, workload.name)}\n\n{note}"
    return Outcome(f"{text}\n\nFigure: {args.plot}" if args.plot is not None else text)


def _as_json(name: str, comparison: Comparison, bounds: Bounds, cache: str) -> str:
    head = {"workload": name, "cache": cache}
    return json.dumps(head | asdict(bounds) | comparison.as_dict(), indent=2)


def _capacity(text: str) -> str:
    try:
        resolve(text, 0)
    except ValueError as error:
        hint = "; FILE goes before --capacity" if Path(text).exists() else ""
        raise argparse.ArgumentTypeError(f"{error}{hint}") from None
    return text


def _image(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in SUFFIXES:
        raise argparse.ArgumentTypeError(f"{text!r} does not end in {' or '.join(SUFFIXES)}")
    return path


COMMAND = Command(
    name="simulate",
    help="replay recorded requests and show what planning would save",
    examples=(
        "contextpilot simulate requests.jsonl\n"
        "contextpilot simulate requests.json.gz --plot hits.png --capacity unlimited 5% 200k\n"
        "contextpilot simulate requests.jsonl --json --window 32 --pin-first 2\n"
        "contextpilot simulate requests.jsonl --cache hybrid"
    ),
    add_arguments=_add_arguments,
    run=_run,
)

"""`contextpilot bench`: how much faster a running engine gets, measured on it."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from contextpilot.commands.bounds_flags import add_bounds, changed_bounds
from contextpilot.commands.command import Command, Outcome
from contextpilot.commands.numbers import natural, positive
from contextpilot.commands.workload import STDIN, Workload, read_workload
from contextpilot.errors import CommandError
from contextpilot.progress import ProgressBar

if TYPE_CHECKING:
    from contextpilot.bench.benchmark import Config
    from contextpilot.bench.report import Report

_ORDERS = ("auto", "interleaved", "sequential")
_MODES = (
    "plain, random, sorted, dedup, deduplicated, reordered, online, batch, online-full, "
    "batch-full, proxy, synced "
    "(default: plain, online, batch, proxy; with --answers or --judge: "
    "plain, reordered, online, deduplicated)"
)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    _add_what(parser)
    _add_how(parser)
    _add_planning(parser)
    answers = parser.add_argument_group("answers")
    answers.add_argument(
        "--answers",
        action="store_true",
        help="score exact match and token F1 against the workload's field answers",
    )
    answers.add_argument("--judge", metavar="URL", help="ask a judge model at this base URL, too")
    answers.add_argument("--judge-model", metavar="NAME", help="default: the first that it lists")


def _add_what(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engine", required=True, metavar="URL", help="base URL of the engine")
    parser.add_argument(
        "--workload",
        required=True,
        metavar="FILE",
        help=f"requests, as for simulate; {STDIN} is standard input",
    )
    parser.add_argument("--modes", metavar="A,B", default="", help=f"comma separated: {_MODES}")
    parser.add_argument("--requests", type=positive, metavar="N", help="use only the first N")
    parser.add_argument(
        "--wait",
        type=natural,
        default=300,
        metavar="S",
        help="seconds to wait for an engine that is still loading (300)",
    )
    parser.add_argument("--model", metavar="NAME", help="default: the first that the engine lists")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write bench.json, .csv, .png and .svg there"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def _add_how(parser: argparse.ArgumentParser) -> None:
    how = parser.add_argument_group("measuring")
    how.add_argument(
        "--concurrency", type=positive, default=1, metavar="N", help="requests in flight (1)"
    )
    how.add_argument(
        "--repetitions", type=positive, default=3, metavar="N", help="repetitions of everything (3)"
    )
    how.add_argument(
        "--slice", type=positive, default=8, metavar="N", help="requests of a mode in a row (8)"
    )
    how.add_argument(
        "--warmup", type=natural, default=4, metavar="N", help="warm-up requests, not counted (4)"
    )
    how.add_argument(
        "--order",
        choices=_ORDERS,
        default="auto",
        metavar="ORDER",
        help="interleaved: modes take turns slice by slice; sequential: one after another; auto: "
        "the former if the engine's cache holds the prompts of all modes",
    )
    how.add_argument(
        "--seed", type=natural, default=0, metavar="N", help="seed of random order and resampling"
    )
    how.add_argument(
        "--max-tokens",
        type=positive,
        metavar="N",
        help="length of each answer (1; 64 with --answers)",
    )
    how.add_argument(
        "--cache-tokens",
        type=positive,
        metavar="N",
        help="the cache's size, if the engine does not report it",
    )
    how.add_argument(
        "--host-cache-tokens",
        type=natural,
        default=0,
        metavar="N",
        help="what llama-server also keeps in host memory (--cache-ram), for the simulation (0)",
    )
    how.add_argument(
        "--times-only", action="store_true", help="go on if the engine reports no cached tokens"
    )
    how.add_argument(
        "--listen",
        metavar="HOST:PORT",
        help="where the server of proxy and synced listens; for events to arrive, launch the "
        "engine with CONTEXTPILOT_INDEX_URL set to http://HOST:PORT",
    )


def _add_planning(parser: argparse.ArgumentParser) -> None:
    planning = parser.add_argument_group("planning")
    planning.add_argument(
        "--annotate",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write the importance ranking after reordered blocks (yes)",
    )
    add_bounds(planning)


def _run(args: argparse.Namespace) -> Outcome:
    from contextpilot.bench.benchmark import benchmark
    from contextpilot.bench.prompts import Requests

    workload = _with_texts(read_workload(args.workload).first(args.requests))
    config = _config(args, workload)
    requests = Requests(workload.queries, workload.contexts)
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
    with ProgressBar("measuring") as bar:
        report = asyncio.run(benchmark(workload.name, requests, config, bar, _say))
    notes = _write(report, args.out) if args.out is not None else ""
    return Outcome(_text(report, args.json) + ("" if args.json else notes))


def _say(text: str) -> None:
    sys.stderr.write(f"contextpilot bench: {text}\n")
    sys.stderr.flush()


def _with_texts(workload: Workload) -> Workload:
    """Return the workload, or raise CommandError where a block could not be sent."""
    for i, context in enumerate(workload.contexts):
        for block in context:
            if not isinstance(block.key, bytes):
                raise CommandError(
                    f"{workload.name}, request {i + 1}: block {block.text} is an id without a "
                    "text: bench sends prompts; simulate does with ids"
                )
    return workload


def _config(args: argparse.Namespace, workload: Workload) -> Config:
    from contextpilot.bench.benchmark import Config
    from contextpilot.bench.schedule import Schedule

    if args.answers and not any(workload.answers):
        raise CommandError(
            f"--answers: no request of {workload.name} has a field answers: give each a list of "
            'gold answers, for example {"query": "who?", "contexts": [...], "answers": ["Ada"]}'
        )
    return Config(
        engine=args.engine,
        modes=[name.strip() for name in args.modes.split(",") if name.strip()],
        schedule=Schedule(args.repetitions, args.slice, args.concurrency, args.warmup, args.order),
        seed=args.seed,
        options=changed_bounds(args) | ({} if args.annotate else {"annotate": False}),
        model=args.model,
        max_tokens=args.max_tokens,
        cache_tokens=args.cache_tokens,
        host_cache_tokens=args.host_cache_tokens,
        times_only=args.times_only,
        listen=args.listen,
        gold=workload.answers if args.answers else None,
        judge=args.judge,
        judge_model=args.judge_model,
        wait_s=args.wait,
    )


def _text(report: Report, as_json: bool) -> str:
    from contextpilot.bench.report import render

    return json.dumps(report.as_dict(), indent=2) if as_json else render(report)


def _write(report: Report, folder: Path) -> str:
    """Write the files of a run; return a line that names them."""
    from contextpilot.bench.answers import as_lines
    from contextpilot.bench.plots import MISSING, draw, has_matplotlib
    from contextpilot.bench.report import write_files

    paths = write_files(report, folder)
    if report.answers:
        paths.append(folder / "answers.jsonl")
        paths[-1].write_text(as_lines(report.passes), encoding="utf-8")
    drawn = has_matplotlib()
    if drawn:
        paths += draw(report, folder)
    names = ", ".join(path.name for path in paths)
    return f"\n\nWritten to {folder}: {names}" + ("" if drawn else f"; {MISSING}")


COMMAND = Command(
    name="bench",
    help="measure on a running engine what planning saves",
    examples=(
        "contextpilot bench --engine http://127.0.0.1:8000 --workload requests.jsonl\n"
        "contextpilot bench --engine http://127.0.0.1:30000 --workload requests.jsonl "
        "--modes plain,sorted,online,batch --requests 200 --out results\n"
        "contextpilot bench --engine http://127.0.0.1:8000 --workload questions.jsonl --answers"
    ),
    add_arguments=_add_arguments,
    run=_run,
)

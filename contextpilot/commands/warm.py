"""`contextpilot warm`: fill an engine's empty cache with what a log's requests shared."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from contextpilot.block import Block, BlockKey, estimate_tokens, unique
from contextpilot.commands.bounds_flags import add_bounds, bounds_of
from contextpilot.commands.capacity import FORMS, resolve
from contextpilot.commands.command import Command, Outcome
from contextpilot.commands.numbers import natural, positive
from contextpilot.commands.workload import STDIN, stream_contexts
from contextpilot.errors import CommandError
from contextpilot.plan.bounds import Bounds
from contextpilot.progress import ProgressBar
from contextpilot.tables import percent, shown_table, terminal_width, wrap

if TYPE_CHECKING:
    from contextpilot.bench.warm_run import WarmRun
    from contextpilot.plan.warm import Outlook, Prefix

_SHOWN = 10
_BUDGET = "10%"
INDEX_VARIABLE = "CONTEXTPILOT_INDEX_URL"
_NOBODY_KNOWS = (
    "The engine holds these prefixes, but no planner knows of them: use the URL of contextpilot "
    "serve as --engine, or --index, or warm within your program (contextpilot.warming)."
)


class WarmPlan(NamedTuple):
    """What is worth computing for a log.

    Attributes:
        num_requests, tokens: of the log; tokens are of blocks, copies in one request left out.
        budget: tokens that may be spent.
        blocks: by key, with their texts.
        outlook: what it should bring.
    """

    num_requests: int
    tokens: int
    budget: int
    prefixes: Sequence[Prefix]
    blocks: dict[BlockKey, Block]
    outlook: Outlook

    @property
    def spent(self) -> int:
        """Tokens that sending the prefixes computes."""
        return sum(prefix.tokens for prefix in self.prefixes)

    @property
    def earned(self) -> int:
        """Tokens of the log that the prefixes are."""
        return sum(prefix.earned for prefix in self.prefixes)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--log",
        required=True,
        metavar="FILE",
        help=f"yesterday's requests, as for simulate; {STDIN} is standard input",
    )
    parser.add_argument(
        "--engine",
        metavar="URL",
        help="base URL of the engine, or of contextpilot serve in front of it",
    )
    parser.add_argument(
        "--budget",
        default=_BUDGET,
        metavar="TOKENS",
        help=f"tokens to compute: {FORMS} (default: {_BUDGET})".replace("%", "%%"),
    )
    parser.add_argument("--dry-run", action="store_true", help="show the plan, send nothing")
    parser.add_argument(
        "--system", metavar="TEXT", help="the system message of the coming requests"
    )
    parser.add_argument("--system-file", type=Path, metavar="FILE", help="the same, from a file")
    parser.add_argument("--namespace", metavar="NAME", help="namespace of the coming requests")
    parser.add_argument(
        "--index",
        metavar="URL",
        help="index server that plans for the engine, if --engine is not contextpilot serve "
        f"(default: {INDEX_VARIABLE})",
    )
    parser.add_argument("--model", metavar="NAME", help="default: the first that the engine lists")
    parser.add_argument(
        "--cache-tokens",
        type=positive,
        metavar="N",
        help="the cache's size, if the engine does not report it",
    )
    parser.add_argument(
        "--patience",
        type=natural,
        default=600,
        metavar="S",
        help="longest wait for an idle moment (600)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_bounds(parser.add_argument_group("planning"))


def _run(args: argparse.Namespace) -> Outcome:
    from contextpilot.bench.warm_run import find_target, send

    if not args.engine and not args.dry_run:
        raise CommandError("give --engine URL, or --dry-run to only see the plan")
    system, target = _system(args), None
    if args.engine:
        target = asyncio.run(find_target(args.engine, args.model, args.cache_tokens))
    capacity = target.cache_tokens if target else args.cache_tokens
    contexts = list(stream_contexts(args.log))
    plan = plan_warming(contexts, args.budget, capacity, bounds_of(args), system)
    if args.dry_run or target is None:
        return Outcome(_shown(plan, capacity, None, args.json))
    index = args.index if args.index is not None else os.environ.get(INDEX_VARIABLE, "")
    prompts = (plan.prefixes, plan.blocks, system, args.namespace)
    with ProgressBar("warming") as bar:
        run = asyncio.run(send(target, *prompts, index, args.patience, bar))
    text = _shown(plan, capacity, run, args.json)
    if not args.json and not target.is_server and not index:
        text += "\n\n" + wrap(_NOBODY_KNOWS, terminal_width())
    return Outcome(text, 0 if not run.failure else 1)


def _system(args: argparse.Namespace) -> str | None:
    if args.system is not None and args.system_file is not None:
        raise CommandError("give --system or --system-file, not both")
    if args.system_file is not None:
        try:
            return str(args.system_file.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise CommandError(f"{args.system_file} is not UTF-8 text: {error}") from None
    system: str | None = args.system
    return system


def plan_warming(
    contexts: Sequence[Sequence[Block]],
    budget: str,
    capacity: int | None,
    bounds: Bounds,
    system: str | None = None,
) -> WarmPlan:
    """Return what is worth computing of a log.

    Args:
        budget: as people write it; see `capacity.FORMS`.
        capacity: tokens that the engine's cache holds, where it tells.
    """
    from contextpilot.plan.warm import outlook, planned_paths, worth_computing

    blocks = {block.key: block for context in contexts for block in context}
    tokens = sum(block.weight for context in contexts for block in unique(context))
    try:
        asked = resolve(budget, tokens).tokens
    except ValueError as error:
        raise CommandError(f"--budget: {error}") from None
    room = min(tokens if asked is None else asked, tokens if capacity is None else capacity)
    room = max(0, room - (estimate_tokens(system) if system else 0))
    weights = {key: block.weight for key, block in blocks.items()}
    with ProgressBar("planning") as bar:
        paths = planned_paths(contexts, bounds, bar)
    prefixes = worth_computing(paths, weights, room)
    expected = outlook(contexts, room, capacity, bounds)
    return WarmPlan(len(contexts), tokens, room, prefixes, blocks, expected)


def _shown(plan: WarmPlan, capacity: int | None, run: WarmRun | None, as_json: bool) -> str:
    if as_json:
        return json.dumps(_as_dict(plan, capacity, run), indent=2)
    width, expected = terminal_width(), plan.outlook
    cache = f"; the engine's cache holds {capacity:,}" if capacity is not None else ""
    parts = [
        f"{plan.num_requests:,} requests, {plan.tokens:,} block tokens; "
        f"budget {plan.budget:,} tokens{cache}",
        f"Worth computing: {len(plan.prefixes):,} prefixes of {plan.spent:,} tokens "
        f"({_share(plan.spent, plan.tokens)} of the log's), which serve {plan.earned:,} tokens of "
        f"the log's requests ({_share(plan.earned, plan.tokens)})",
    ]
    text = "\n\n".join(wrap(part, width) for part in parts)
    if plan.prefixes:
        text += "\n\n" + shown_table(
            ["sent", "blocks", "new tokens", "tokens served"],
            [
                [str(number), str(len(one.keys)), f"{one.tokens:,}", f"{one.earned:,}"]
                for number, one in enumerate(plan.prefixes[:_SHOWN], start=1)
            ],
        )
        if len(plan.prefixes) > _SHOWN:
            text += f"\n  and {len(plan.prefixes) - _SHOWN:,} more"
    told = (
        f"Forecast: the log's second half, one request at a time, hits "
        f"{percent(expected.warm.hit_ratio)} if its first half was warmed, instead of "
        f"{percent(expected.cold.hit_ratio)}: {expected.spent:,} tokens spent, "
        f"{expected.saved:,} saved (simulated)"
    )
    text += "\n\n" + wrap(told, width)
    return text if run is None else text + "\n\n" + wrap(run.told(), width)


def _share(part: int, whole: int) -> str:
    return percent(part / whole if whole else 0.0)


def _as_dict(plan: WarmPlan, capacity: int | None, run: WarmRun | None) -> dict[str, object]:
    expected = plan.outlook
    return {
        "requests": plan.num_requests,
        "tokens": plan.tokens,
        "budget": plan.budget,
        "cache_tokens": capacity,
        "spent_tokens": plan.spent,
        "earned_tokens": plan.earned,
        "prefixes": [
            {"blocks": len(one.keys), "tokens": one.tokens, "earned": one.earned}
            for one in plan.prefixes
        ],
        "outlook": {
            "cold_hit_ratio": round(expected.cold.hit_ratio, 6),
            "warm_hit_ratio": round(expected.warm.hit_ratio, 6),
            "spent_tokens": expected.spent,
            "saved_tokens": expected.saved,
        },
        "sent": None if run is None else run._asdict(),
    }


COMMAND = Command(
    name="warm",
    help="fill an engine's empty cache with prefixes that yesterday's requests shared",
    examples=(
        "contextpilot warm --log yesterday.jsonl --dry-run\n"
        "contextpilot warm --log yesterday.jsonl --engine http://127.0.0.1:8765 --budget 200k\n"
        "contextpilot warm --log yesterday.jsonl --engine http://127.0.0.1:8000 "
        "--index http://127.0.0.1:8765 --system-file system.txt"
    ),
    add_arguments=_add_arguments,
    run=_run,
)

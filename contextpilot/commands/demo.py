"""`contextpilot demo`: plans prompts over the docstrings of the standard library.

The corpus is on every machine; no network, no engine and no model are needed.
"""

from __future__ import annotations

import argparse
import json
import platform

from contextpilot.block import BlockReader
from contextpilot.commands.before_after import half_cached_request, render_request
from contextpilot.commands.command import Command, Outcome
from contextpilot.commands.comparison import compare, render
from contextpilot.commands.corpus import TOP_K, passages, retrieve
from contextpilot.commands.demo_screen import render_screen
from contextpilot.commands.questions import questions
from contextpilot.errors import CommandError
from contextpilot.tables import terminal_width, wrap


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--details", action="store_true", help="show every mode, and one request in full"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def _run(args: argparse.Namespace) -> Outcome:
    texts, asked = passages(), questions()
    if not texts:
        raise CommandError("this Python comes without the sources of its standard library")
    contexts = [[texts[i] for i in found] for found in retrieve(texts, asked)]
    comparison = compare(BlockReader().read_batch(contexts))
    shown = half_cached_request(contexts, asked)
    version = platform.python_version()
    if args.json:
        found = {"python": version} | comparison.as_dict() | {"request": shown.as_dict()}
        return Outcome(json.dumps(found, indent=2))
    width = terminal_width()
    introduction = (
        f"{len(asked)} questions about Python {version}'s standard library; for each, BM25 finds "
        f"the {TOP_K} best of {len(texts):,} docstrings. Nothing is sent anywhere: the engine's "
        "prefix cache is simulated."
    )
    if not args.details:
        return Outcome(render_screen(comparison, shown, introduction, width))
    return Outcome(
        f"{wrap(introduction, width)}\n\n{render(comparison)}\n\n{render_request(shown, width)}"
    )


COMMAND = Command(
    name="demo",
    help="plan prompts over the standard library's docstrings (no network, no engine)",
    examples="contextpilot demo\ncontextpilot demo --details",
    add_arguments=_add_arguments,
    run=_run,
)

"""`contextpilot plugin AGENT`: what to do so that an agent loads its plugin."""

from __future__ import annotations

import argparse

from contextpilot.agents.plugins.places import hosts, steps
from contextpilot.commands.command import Command, Outcome


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("agent", choices=hosts(), metavar="AGENT", help=", ".join(hosts()))


def _run(args: argparse.Namespace) -> Outcome:
    return Outcome(steps(args.agent))


COMMAND = Command(
    name="plugin",
    help="show how an agent loads its plugin (nothing is changed)",
    examples="contextpilot plugin opencode",
    add_arguments=_add_arguments,
    run=_run,
)

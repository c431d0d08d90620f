"""`contextpilot serve`: the index API and the proxy in front of engines."""

from __future__ import annotations

import argparse
import os
from dataclasses import Field, fields
from typing import Any

from contextpilot.commands.command import Command, Outcome
from contextpilot.errors import CommandError
from contextpilot.server.settings import ENVIRONMENT_PREFIX, Settings, load_settings
from contextpilot.sync.sources.kv_events.address import parse_addresses
from contextpilot.sync.sources.kv_events.local_tokenizer import LocalTokenizer
from contextpilot.sync.sources.kv_events.packages import MissingExtraError, load_packages

CONFIG_VARIABLE = ENVIRONMENT_PREFIX + "CONFIG"
_GROUPS = {
    "engine": "engines",
    "host": "address",
    "max_in_flight": "waiting requests",
    "tenants": "tenants",
    "mode": "finding and planning blocks",
    "max_blocks": "memory",
    "max_body_bytes": "limits",
    "log_level": "logs",
}
"""Titles in the help, each by the first setting under it."""
_UNITS = ("PORT", "S", "TOKENS", "BYTES")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help=f"TOML file ({CONFIG_VARIABLE})")
    group: argparse._ActionsContainer = parser
    for item in fields(Settings):
        if item.name in _GROUPS:
            group = parser.add_argument_group(_GROUPS[item.name])
        group.add_argument("--" + item.name.replace("_", "-"), **_argument(item))


def _argument(item: Field[Any]) -> dict[str, Any]:
    """Return how argparse takes a setting; None stands for "not given"."""
    default, choices = item.default, item.metadata["choices"]
    among = f": {', '.join(choices)}" if choices else ""
    text = f"{item.metadata['help']}{among} ({ENVIRONMENT_PREFIX}{item.name.upper()}{_told(item)})"
    argument: dict[str, Any] = {"dest": item.name, "default": None, "help": text.replace("%", "%%")}
    if isinstance(default, bool):
        return argument | {"action": argparse.BooleanOptionalAction}
    if isinstance(default, tuple):
        return argument | {
            "action": "append",
            "metavar": "URL" if item.name in ("engine", "kv_events") else "NAME",
        }
    last = item.name.split("_")[-1].upper()
    metavar = last if isinstance(default, str) or last in _UNITS else "N"
    if choices:
        return argument | {"choices": choices, "metavar": metavar}
    return argument | {"type": type(default), "metavar": metavar}


def _told(item: Field[Any]) -> str:
    if item.metadata["secret"] or item.default in ("", ()):
        return ""
    if isinstance(item.default, bool):
        return f"; default {'yes' if item.default else 'no'}"
    return f"; default {item.default}"


def _run(args: argparse.Namespace) -> Outcome:
    given = {item.name: getattr(args, item.name) for item in fields(Settings)}
    for name, value in given.items():
        if isinstance(value, list):
            given[name] = tuple(value)
    path = args.config or os.environ.get(CONFIG_VARIABLE)
    try:
        settings = load_settings(given, os.environ, path)
    except ValueError as error:
        raise CommandError(str(error)) from None
    if settings.kv_events:
        try:
            load_packages()
            for at in parse_addresses(settings.kv_events):
                if at.tokenizer:
                    LocalTokenizer(at.tokenizer)
        except MissingExtraError as error:
            raise CommandError(str(error)) from None
    from contextpilot.server.run import serve

    return Outcome("", serve(settings))


COMMAND = Command(
    name="serve",
    help="serve the index API and an OpenAI- and Anthropic-compatible proxy",
    examples=(
        "contextpilot serve --engine http://127.0.0.1:30000\n"
        "contextpilot serve --engine http://127.0.0.1:30000 --engine http://127.0.0.1:30001"
    ),
    add_arguments=_add_arguments,
    run=_run,
)

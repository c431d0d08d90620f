"""What a subcommand is: arguments in, text and exit status out."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import NamedTuple


class Outcome(NamedTuple):
    """What a command wants written to standard output, and its exit status."""

    text: str
    status: int = 0


class Command(NamedTuple):
    """One subcommand.

    Attributes:
        name: as typed.
        help: one line for the list of commands.
        examples: command lines, one per line, shown by `--help`.
        add_arguments: declares the arguments.
        run: does the work. Raises CommandError or OSError for what a user can mend.
    """

    name: str
    help: str
    examples: str
    add_arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], Outcome]

"""The command `contextpilot`: parses arguments, runs a subcommand, reports errors.

Exit status: 0 done, 1 failed (one line on standard error), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from contextpilot import __version__
from contextpilot.commands import (
    bench,
    demo,
    doctor,
    plugin,
    run,
    savings,
    serve,
    simulate,
    warm,
)
from contextpilot.commands.checks import packages
from contextpilot.commands.command import Command, Outcome
from contextpilot.commands.help_text import HelpFormatter, examples, short_usage
from contextpilot.errors import CommandError

COMMANDS: tuple[Command, ...] = (
    demo.COMMAND,
    simulate.COMMAND,
    bench.COMMAND,
    doctor.COMMAND,
    warm.COMMAND,
    serve.COMMAND,
    run.COMMAND,
    plugin.COMMAND,
    savings.COMMAND,
)

_FIRST_STEPS = """\
first steps:
  contextpilot demo
  contextpilot simulate requests.jsonl
  contextpilot bench --engine http://127.0.0.1:8000 --workload requests.jsonl
  contextpilot serve --engine http://127.0.0.1:8000
  contextpilot run -- claude
  contextpilot savings ~/.claude/projects
  contextpilot doctor
contextpilot COMMAND --help shows the options of a command."""
_STDOUT, _STDERR = 1, 2
_INTERRUPTED = 130
_PIPE_CLOSED = 141
"""128 plus the signal number: what a shell reports for a program that the signal ended."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; return the exit status. Wrong usage raises SystemExit(2)."""
    _open_standard_streams()
    parser = build_parser()
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        args.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if args.command is None:
        parser.print_help()
        return 0
    try:
        outcome: Outcome = args.command.run(args)
        _write(outcome.text)
    except BrokenPipeError:
        _silence_stdout()
        return _PIPE_CLOSED
    except KeyboardInterrupt:
        return _INTERRUPTED
    except ModuleNotFoundError as error:
        if not packages.is_foreign(error):
            raise
        return _failed(args.command, packages.told(error))
    except (CommandError, OSError) as error:
        return _failed(args.command, _told(error))
    return outcome.status


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; `command` holds the chosen one, or None."""
    parser = argparse.ArgumentParser(
        prog="contextpilot",
        description="Order, deduplicate and schedule prompt context for prefix caches.",
        epilog=_FIRST_STEPS,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"contextpilot {__version__}")
    parser.set_defaults(command=None, parser=parser)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        own = subparsers.add_parser(
            command.name,
            help=command.help,
            description=command.help[0].upper() + command.help[1:] + ".",
            epilog=examples(command.examples),
            formatter_class=HelpFormatter,
        )
        command.add_arguments(own)
        own.usage = short_usage(own)
        own.set_defaults(command=command, parser=own)  # who complains shows its own usage
    return parser


def _failed(command: Command, why: str) -> int:
    print(f"contextpilot {command.name}: {why}", file=sys.stderr)
    return 1


def _told(error: Exception) -> str:
    """Return an error as one sentence; a file's begins with its name, as all others do."""
    if isinstance(error, OSError) and isinstance(error.filename, str) and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _write(text: str) -> None:
    """Write a command's text; what the terminal's encoding lacks is shown escaped."""
    if text:
        encoding = sys.stdout.encoding or "utf-8"
        print(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()


def _open_standard_streams() -> None:
    """Open nothing in place of closed streams: else the next file or socket gets their number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stdout is None:
        sys.stdout = os.fdopen(_STDOUT, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(_STDERR, "w", closefd=False)


def _silence_stdout() -> None:
    """Let the interpreter flush at exit into nothing: the reader of our output has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

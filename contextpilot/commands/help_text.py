"""How `--help` looks: short usage, groups of options, examples; all within the terminal's width."""

from __future__ import annotations

import argparse
import re

from contextpilot.tables import terminal_width, wrap

_COMMAND = "contextpilot "
_MARGIN = "  "
_FURTHER = "      "
_CONTINUED = " \\"
_TIE = "\N{NO-BREAK SPACE}"
_OPTION = re.compile(r"(?<=\S) (?!-)")
"""Before a value, which stays beside its option."""
_PLACE = 24
"""Where the text of an option begins."""


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Wraps paragraphs, and examples so that they can still be copied."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=_PLACE, width=terminal_width())

    def _fill_text(self, text: str, width: int, indent: str) -> str:  # noqa: ARG002
        return "\n".join(_line(line, width) for line in text.splitlines())


def _line(line: str, width: int) -> str:
    if not line.startswith(_MARGIN + _COMMAND):
        return wrap(line, width)
    tied = _OPTION.sub(_TIE, line.strip())
    whole = wrap(tied, width - len(_CONTINUED), _MARGIN, _FURTHER)
    return f"{_CONTINUED}\n".join(whole.split("\n")).replace(_TIE, " ")


def examples(lines: str) -> str:
    """Return command lines, one per line, as the end of a help text."""
    return "examples:\n" + "\n".join(_MARGIN + line for line in lines.splitlines())


def short_usage(parser: argparse.ArgumentParser) -> str:
    """Return the usage of a parser with the options that must be given spelt out, no others."""
    words = [parser.prog, "[options]"]
    for action in parser._actions:
        if not action.option_strings:
            words.append(str(action.metavar or action.dest))
        elif action.required:
            words.append(f"{action.option_strings[0]} {action.metavar}")
    prefix = "usage: "
    return wrap(" ".join(words), terminal_width() - len(prefix), "", " " * len(prefix))

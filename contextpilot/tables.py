"""Text tables, paragraphs and numbers for people, as wide as their terminal is."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

MIN_WIDTH, MAX_WIDTH = 60, 100
_GAP = "  "


def terminal_width() -> int:
    """Return how long lines of prose may be: as the terminal, or COLUMNS, is wide, in bounds."""
    return min(MAX_WIDTH, max(MIN_WIDTH, shutil.get_terminal_size().columns))


def table_width() -> int | None:
    """Return how wide a table may be; None, no bound, where no terminal shows it."""
    columns = shutil.get_terminal_size((0, 0)).columns
    return max(MIN_WIDTH, columns) if columns else None


def shown_table(header: Sequence[str], rows: Sequence[Sequence[str]], by: str = "  ") -> str:
    """Return a table, indented, that the terminal is wide enough for."""
    width = table_width()
    return indent(format_table(header, rows, width and width - len(by)), by)


def format_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None
) -> str:
    """Return aligned lines: the first column to the left, the others to the right.

    Args:
        width: columns that do not fit in it go on in a further table below; None is no bound.
    """
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n\n".join(
        "\n".join(_line(line, columns, widths) for line in lines)
        for columns in _tables(widths, width)
    )


def _tables(widths: Sequence[int], width: int | None) -> list[list[int]]:
    """Return which columns stand side by side; the first is in each table."""
    tables, room = [[0]], (width or sum(widths) * len(widths)) - widths[0]
    left = room
    for column in range(1, len(widths)):
        needed = widths[column] + len(_GAP)
        if needed > left and len(tables[-1]) > 1:
            tables.append([0])
            left = room
        tables[-1].append(column)
        left -= needed
    return tables


def _line(line: Sequence[str], columns: Sequence[int], widths: Sequence[int]) -> str:
    first, *others = columns
    cells = [line[first].ljust(widths[first])]
    return _GAP.join(cells + [line[c].rjust(widths[c]) for c in others]).rstrip()


def wrap(text: str, width: int, first: str = "", others: str = "") -> str:
    """Return `text` in lines of at most `width`; words, paths and addresses stay whole."""
    return textwrap.fill(
        text,
        width,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )


def percent(ratio: float) -> str:
    """Return a ratio as percent with one decimal."""
    return f"{100 * ratio:.1f} %"


def indent(text: str, by: str = "  ") -> str:
    """Return `text` with `by` before each line that holds something."""
    return "\n".join(by + line if line else line for line in text.split("\n"))


def clip(text: str, width: int) -> str:
    """Return `text` in one line of at most `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: max(0, width - 1)].rstrip() + "…"

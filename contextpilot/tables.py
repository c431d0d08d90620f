"""Text tables and numbers for people."""

from __future__ import annotations

from collections.abc import Sequence

_GAP = "  "


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return aligned lines: the first column to the left, the others to the right."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        _GAP.join(
            [line[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        ).rstrip()
        for line in lines
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

"""Draws a comparison with matplotlib (extra `plot`)."""

from __future__ import annotations

from pathlib import Path

from contextpilot.commands.comparison import Comparison, label_of
from contextpilot.errors import CommandError
from contextpilot.plan.replay import Mode

SUFFIXES = (".png", ".svg")

_COLORS: dict[Mode, str] = {
    "plain": "#b8bcc4",
    "online": "#9ecae1",
    "synced": "#4f9bc9",
    "window": "#1f6ba5",
    "batch": "#0b3d66",
}
_GROUP_WIDTH = 0.84
_INK = "#30343b"


def check_plot(path: Path) -> None:
    """Raise CommandError if no figure can be written to `path`, before any work is done."""
    if not path.absolute().parent.is_dir():
        raise CommandError(f"--plot {path}: there is no folder {path.parent}")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise CommandError(f"--plot needs matplotlib ({error}): pip install matplotlib") from None


def draw(comparison: Comparison, name: str, path: Path) -> None:
    """Write a bar chart of hit ratios, one group of bars per capacity, to `path`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.2 + 2.4 * len(comparison.capacities), 4.2), layout="constrained")
    axes = figure.add_subplot()
    width = _GROUP_WIDTH / len(comparison.totals)
    for i, (mode, totals) in enumerate(comparison.totals.items()):
        offset = (i - (len(comparison.totals) - 1) / 2) * width
        bars = axes.bar(
            [group + offset for group in range(len(totals))],
            [100 * each.hit_ratio for each in totals],
            width * 0.92,
            color=_COLORS[mode],
            label=label_of(mode, comparison.window),
        )
        axes.bar_label(bars, fmt="%.1f", fontsize=7, color=_INK, padding=2)
    axes.axhline(
        100 * comparison.bound.hit_ratio,
        color=_INK,
        linewidth=1,
        linestyle=(0, (4, 3)),
        label=f"no order exceeds {100 * comparison.bound.hit_ratio:.1f} %",
    )
    titles = [capacity.title for capacity in comparison.capacities]
    axes.set_xticks(range(len(titles)), titles)
    axes.set_xlabel("cache size in tokens")
    axes.set_ylabel("hit ratio in % of block tokens")
    axes.set_title(f"{name}: {comparison.num_requests:,} requests", loc="left", fontsize=10)
    axes.set_ylim(0, max(1.0, 112 * comparison.bound.hit_ratio))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    figure.savefig(path, dpi=160)

"""The picture of docs/benchmarks.md: hit ratios, and throughput over plain, of every launch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from contextpilot.bench.plots import COLORS, INK

RATIO = "throughput_ratio"
PLANNED = ("online", "batch", "proxy")
SHOWN = ("plain", "sorted", "online", "synced", "proxy", "batch")
LIMIT = "#c0392b"

Mode = Mapping[str, Any]
Value = Callable[[Mode], "float | None"]


def draw_overview(places: Sequence[str], modes: Sequence[Mapping[str, Mode]], path: Path) -> None:
    """Write a PNG to `path` and an SVG beside it; `modes[i]` are the figures of `places[i]`."""
    from matplotlib.figure import Figure

    short = [place.replace("`", "").removesuffix("-top100") for place in places]
    names = [re.sub("[- ]", "\n", name, count=2) for name in short]
    figure = Figure(figsize=(max(8.0, 0.85 * len(places)), 7.0), layout="constrained")
    hits, ratios = figure.subplots(2, 1)
    _bars(hits, modes, lambda m: _percent(m["hit_ratio"]), lambda m: _percent(_expected(m)), INK)
    _bars(ratios, modes, lambda m: _value(m, RATIO), lambda m: m["throughput_limit"], LIMIT, RATIO)
    titles = {
        hits: "hit ratio, % of prompt tokens (dash: simulated)",
        ratios: "prefill throughput over plain (dash: limit; line: 95 % interval)",
    }
    for axes, title in titles.items():
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xticks(range(len(names)), names, fontsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    ratios.axhline(1, color=INK, linewidth=0.8)
    handles, labels = hits.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    for suffix in (".png", ".svg"):
        figure.savefig(path.with_suffix(suffix), dpi=130)


def _bars(
    axes: Any,
    modes: Sequence[Mapping[str, Mode]],
    height: Value,
    mark: Value,
    color: str,
    by: str = "",
) -> None:
    """Draw a group of bars for each place, each with its interval, and a dash for its mark."""
    shown = [name for name in SHOWN if any(name in own for own in modes)]
    width = 0.84 / max(1, len(shown))
    for i, name in enumerate(shown):
        offset = (i - (len(shown) - 1) / 2) * width
        there = [(n + offset, own[name]) for n, own in enumerate(modes) if name in own]
        heights = [(at, height(mode)) for at, mode in there]
        bars = [(at, value) for at, value in heights if value is not None]
        axes.bar([at for at, _ in bars], [value for _, value in bars], 0.92 * width,
                 color=COLORS[name], label=name)  # fmt: skip
        for at, mode in there:
            if mode.get(by):
                axes.vlines(at, mode[by]["low"], mode[by]["high"], color=INK, linewidth=0.8)
        marks = [(at, mark(mode)) for at, mode in there]
        dashes = [(at, value) for at, value in marks if value is not None]
        axes.scatter([at for at, _ in dashes], [value for _, value in dashes], marker="_", s=50,
                     color=color)  # fmt: skip


def _value(mode: Mode, by: str) -> float | None:
    ratio = mode.get(by)
    return None if ratio is None else float(ratio["value"])


def _expected(mode: Mode) -> float | None:
    return None if mode["expected_hit_ratio"] is None else float(mode["expected_hit_ratio"])


def _percent(ratio: float | None) -> float | None:
    return None if ratio is None else 100 * ratio

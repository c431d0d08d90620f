"""Draws a run with matplotlib (extra `plot`): hit ratios, throughput, times to first token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from contextpilot.bench.report import Report

INK = "#30343b"
GREY = "#b8bcc4"
COLORS = {
    "plain": GREY,
    "random": "#d9c7a8",
    "sorted": "#c7a76c",
    "dedup": "#a5d6b5",
    "deduplicated": "#63b583",
    "reordered": "#9ecae1",
    "online": "#4f9bc9",
    "online-full": "#b9d4ea",
    "synced": "#2e86ab",
    "proxy": "#7a6fb0",
    "batch": "#0b3d66",
    "batch-full": "#6f8fb0",
}
MISSING = "no plots: matplotlib is not installed (pip install matplotlib)"


def has_matplotlib() -> bool:
    """Return whether figures can be drawn."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def draw(report: Report, folder: Path) -> list[Path]:
    """Write bench.png and bench.svg; return their paths."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.5, 4.0), layout="constrained")
    hits, throughput, ttft = figure.subplots(1, 3)
    _draw_hits(hits, report)
    _draw_throughput(throughput, report)
    _draw_ttft(ttft, report)
    figure.suptitle(
        f"{report.workload} on {report.facts.title}, {report.results[0].requests:,} requests",
        x=0.01,
        ha="left",
        fontsize=11,
    )
    paths = [folder / "bench.png", folder / "bench.svg"]
    for path in paths:
        figure.savefig(path, dpi=150)
    return paths


def _draw_hits(axes: Any, report: Report) -> None:
    names = [result.name for result in report.results]
    if report.reports_cache:
        measured = [100 * (result.hit_ratio or 0.0) for result in report.results]
        bars = axes.bar(names, measured, 0.7, color=[COLORS[name] for name in names])
        axes.bar_label(bars, fmt="%.1f", fontsize=8, color=INK, padding=2)
        told = [(i, r.expected_ratio) for i, r in enumerate(report.results)]
        found = [(i, 100 * ratio) for i, ratio in told if ratio is not None]
        axes.scatter(*zip(*found, strict=True), marker="_", s=600, color=INK, label="simulated")
        axes.set_ylim(0, max(1.0, 1.15 * max(measured)))
        axes.legend(frameon=False, fontsize=8, markerscale=0.4)
    _finish(axes, "hit ratio, % of prompt tokens")


def _draw_throughput(axes: Any, report: Report) -> None:
    base = report.baseline
    for i, result in enumerate(report.results):
        ratio = result.throughput_ratio(base) if base else None
        if ratio is None or base is None:
            continue
        spread = [[ratio.value - ratio.low], [ratio.high - ratio.value]]
        axes.bar(result.name, ratio.value, 0.7, color=COLORS[result.name])
        axes.errorbar(i, ratio.value, spread, color=INK, capsize=3, linewidth=1)
        axes.annotate(f"{ratio.value:.2f}", (i, ratio.high), (0, 3), textcoords="offset points",
                      ha="center", fontsize=8, color=INK)  # fmt: skip
        limit = result.limit(base)
        if limit is not None:
            label = "limit: only computed tokens take time" if i == 0 else None
            axes.scatter([i], [limit], marker="_", s=600, color="#c0392b", label=label)
    if base is not None:
        axes.legend(frameon=False, fontsize=8, markerscale=0.4)
    _finish(axes, "prefill throughput over plain")


def _draw_ttft(axes: Any, report: Report) -> None:
    for result in report.results:
        values = sorted(
            1000 * sent.ttft_s
            for each in report.passes
            if each.arm.name == result.name
            for sent in each.sent
            if not sent.error
        )
        shares = [100 * (i + 1) / len(values) for i in range(len(values))]
        axes.step(values, shares, where="post", color=COLORS[result.name], label=result.name)
    axes.legend(frameon=False, fontsize=8)
    _finish(axes, "requests in %, by time to first token in ms")


def _finish(axes: Any, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)

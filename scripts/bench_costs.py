"""Where the time of docs/benchmarks.md goes: what a token costs, and what × plain follows from it.

The time to first token of a request is fitted, by least squares, to a fixed part, a part for each
computed token (matrix products), and a part for each token that each of them attends to.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from bench_figures import Found, table
from bench_goals import WORTH
from bench_picture import RATIO
from numpy.typing import NDArray

from contextpilot.bench.results import BASELINE

SHOWN = ("online", "batch")
Column = NDArray[np.float64]


class Times(NamedTuple):
    """One column for each request of one mode: tokens, and seconds without planning."""

    prompt: Column
    cached: Column
    seconds: Column

    @property
    def work(self) -> Column:
        """What a request takes, as rows of 1, computed tokens, and token pairs attended / 1,000."""
        pairs = (self.prompt**2 - self.cached**2) / 2
        return np.stack([np.ones_like(pairs), self.prompt - self.cached, pairs / 1000], axis=1)


def costs(found: Sequence[Found], results: Path) -> str:
    """Return the section: what a token costs on each large launch, and what follows from it."""
    fitted, rows = [], []
    for case, own in _by_case(found).items():
        times = [_times(results / case / each.workload / "bench.csv") for each in own]
        per_work, explained = fit([mode for modes in times for mode in modes.values()])
        fixed, token, before = per_work
        told = [f"{1e3 * fixed:.0f}", f"{1e6 * token:.0f}", f"{1e6 * before:.1f}"]
        fitted.append([case, *told, f"{explained:.3f}"])
        for each, modes in zip(own, times, strict=True):
            rows.append([each.place, *(_ratios(each, modes, per_work, mode) for mode in SHOWN)])
    if not rows:
        return ""
    header = ["launch", "fixed, ms", "per computed token, µs", "per 1,000 tokens before it, µs"]
    return (
        "\n## Where the time goes\n\n"
        "The TTFT of each launch, fitted by least squares to a fixed part, a part for each\n"
        "computed token, and a part for each token that it attends to:\n\n"
        + table([*header, "R²"], fitted)
        + "\n\nThe limit only considers the second part; *by costs* is the × plain that follows\n"
        "from all three. Attention costs most at the end of a prompt, where the computed tokens\n"
        "are.\n\n"
        + table(["launch", *(f"{mode}: measured / by costs / limit" for mode in SHOWN)], rows)
        + "\n"
    )


def _by_case(found: Sequence[Found]) -> dict[str, list[Found]]:
    """Return what has something to explain: large caches, one request at a time, some hits."""
    chosen: dict[str, list[Found]] = {}
    for each in found:
        gains = [each.modes[mode]["throughput_limit"] for mode in SHOWN if mode in each.modes]
        if each.case["cache"] == "large" and len(gains) == len(SHOWN) and max(gains) > WORTH:
            chosen.setdefault(each.case["case"], []).append(each)
    return chosen


def _times(path: Path) -> dict[str, Times]:
    by_mode: dict[str, list[tuple[float, float, float]]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["mode"] in (BASELINE, *SHOWN) and not row["error"]:
                seconds = float(row["ttft_s"]) - float(row["plan_s"] or 0)
                tokens = float(row["prompt_tokens"]), float(row["cached_tokens"] or 0)
                by_mode.setdefault(row["mode"], []).append((*tokens, seconds))
    return {mode: Times(*np.array(rows).T) for mode, rows in by_mode.items()}


def fit(times: Sequence[Times]) -> tuple[Column, float]:
    """Return seconds for each column of `Times.work`, and the share R² that they explain."""
    work = np.concatenate([own.work for own in times])
    seconds = np.concatenate([own.seconds for own in times])
    found, *_ = np.linalg.lstsq(work, seconds, rcond=None)
    left = seconds - work @ found
    spread = seconds - seconds.mean()
    return found, 1 - float(left @ left) / float(spread @ spread)


def _ratios(each: Found, times: Mapping[str, Times], found: Column, mode: str) -> str:
    plain, own = times[BASELINE], times[mode]
    more = own.prompt.sum() / plain.prompt.sum()
    expected = (plain.work @ found).sum() / (own.work @ found).sum() * more
    figures = each.modes[mode]
    measured = figures[RATIO]["value"]
    return f"{measured:.2f} / {expected:.2f} / {figures['throughput_limit']:.2f}"

"""Where the time of docs/benchmarks.md goes: what a token costs, and what × plain follows from it.

The time to first token of a request is fitted, by least squares, to a fixed part, a part for each
computed token (matrix products), and a part for each token that each of them attends to.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from bench_figures import Found, table
from bench_picture import RATIO
from numpy.typing import NDArray

from contextpilot.bench.results import BASELINE

SHOWN = ("online", "batch")
LEAST = 100
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
    """Return the section: a row for each launch and workload with enough requests."""
    rows = [
        row
        for each in found
        if each.report["concurrency"] == 1 and each.case["cache"] == "large"
        for row in _rows(each, _times(results / each.case["case"] / each.workload / "bench.csv"))
    ]
    if not rows:
        return ""
    header = ["launch", "fixed, ms", "a computed token, µs", "1,000 tokens before it, µs", "R²"]
    header += [f"{mode}, × plain: measured / these costs / limit" for mode in SHOWN]
    return (
        "\n## Where the time goes\n\n"
        "The time to first token, fitted by least squares to a fixed part, a part for each\n"
        "computed token, and a part for each token that it attends to. The limit knows only the\n"
        "second; *these costs* is the × plain that follows from all three. Attention is dearest\n"
        "at the end of a prompt, where the tokens stand that have to be computed.\n\n"
        + table(header, rows)
        + "\n"
    )


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


def _rows(each: Found, times: Mapping[str, Times]) -> Iterator[list[object]]:
    if sum(len(own.seconds) for own in times.values()) < LEAST or not {*SHOWN} <= {*times}:
        return
    found, explained = fit(list(times.values()))
    fixed, token, before = found
    told = [f"{1e3 * fixed:.0f}", f"{1e6 * token:.0f}", f"{1e6 * before:.1f}", f"{explained:.3f}"]
    yield [each.place, *told, *(_ratios(each, times, found, mode) for mode in SHOWN)]


def _ratios(each: Found, times: Mapping[str, Times], found: Column, mode: str) -> str:
    plain, own = times[BASELINE], times[mode]
    more = own.prompt.sum() / plain.prompt.sum()
    expected = (plain.work @ found).sum() / (own.work @ found).sum() * more
    figures = each.modes[mode]
    measured = figures[RATIO]["value"]
    return f"{measured:.2f} / {expected:.2f} / {figures['throughput_limit']:.2f}"

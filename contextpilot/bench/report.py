"""A run as text, JSON and CSV."""

from __future__ import annotations

import csv
import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contextpilot import __version__
from contextpilot.bench.answers import AnswerResult
from contextpilot.bench.answers import render as render_answers
from contextpilot.bench.engine import Facts
from contextpilot.bench.results import BASELINE, ArmResult
from contextpilot.bench.schedule import Isolation, Pass, Schedule
from contextpilot.bench.statistics import Interval
from contextpilot.tables import percent, shown_table, terminal_width, wrap

NOT_MEASURED = "–"
_COLUMNS = (
    "mode",
    "repetition",
    "position",
    "prompt_tokens",
    "cached_tokens",
    "expected_cached_tokens",
    "ttft_s",
    "total_s",
    "plan_s",
    "error",
)


@dataclass(frozen=True)
class Report:
    """Everything that a run found out.

    Attributes:
        workload: its name; none of its texts is in the report.
        results: of every arm, in the order asked for.
        failed: requests that count nowhere, and why.
        expected: cached tokens to expect, by arm and position.
        reports_cache: whether the engine was seen to report cached tokens.
    """

    workload: str
    facts: Facts
    schedule: Schedule
    isolation: Isolation
    seed: int
    results: Sequence[ArmResult]
    failed: Mapping[int, str]
    passes: Sequence[Pass]
    expected: Mapping[str, Mapping[int, int]]
    reports_cache: bool
    answers: Sequence[AnswerResult] = ()
    judge: str = ""

    @property
    def baseline(self) -> ArmResult | None:
        """The arm that others are compared with, when it was run."""
        return next((result for result in self.results if result.name == BASELINE), None)

    def as_dict(self) -> dict[str, Any]:
        """Return all figures as a dictionary, ready for JSON; no text of the workload."""
        return {
            "workload": self.workload,
            "engine": self.facts.as_dict(),
            "contextpilot": __version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "date": time.strftime("%Y-%m-%d"),
            "seed": self.seed,
            "repetitions": self.schedule.repetitions,
            "slice_size": self.schedule.slice_size,
            "concurrency": self.schedule.concurrency,
            "warmup": self.schedule.warmup,
            "order": self.isolation.order,
            "isolation": self.isolation.text(self.facts),
            "failed_requests": len(self.failed),
            "modes": [result.as_dict(self.baseline) for result in self.results],
            "answers": [result.as_dict() for result in self.answers],
        }


def render(report: Report) -> str:
    """Return the report as text: exact figures, times, how it was measured."""
    facts, schedule, width = report.facts, report.schedule, terminal_width()
    cache = facts.cache
    size = "of unknown size" if cache.tokens is None else f"of {cache.tokens:,} tokens"
    title = (
        f"{report.workload} on {facts.title}: {report.results[0].requests:,} requests, "
        f"prefix cache {size} in blocks of {cache.block_size}"
    )
    how = (
        f"{_count(schedule.repetitions, 'repetition')} in slices of {schedule.slice_size} "
        f"requests, {schedule.concurrency} in flight; {schedule.warmup} warm-up requests left out."
    )
    times = "Times, planning included (× plain: prefill throughput over plain's, 95 % interval)"
    parts = [
        wrap(title, width),
        *_exact(report),
        f"{wrap(times, width)}\n{_times(report)}",
        f"{wrap(how, width)}\n{wrap(report.isolation.text(facts) + '.', width)}",
    ]
    if report.answers:
        parts.insert(1, render_answers(report.answers, report.judge))
    if report.failed:
        first = next(iter(report.failed.values()))
        parts.append(
            wrap(
                f"{_count(len(report.failed), 'request')} failed and were left out of all figures "
                f"except the wall time; the first: {first}",
                width,
            )
        )
    return "\n\n".join(parts)


def _exact(report: Report) -> list[str]:
    if not report.reports_cache:
        return ["Cache figures: not measured (--times-only)"]
    rows = []
    for result in report.results:
        expected, computed = result.expected_ratio, result.computed_tokens or 0.0
        rows.append(
            [
                result.name,
                f"{result.prompt_tokens:,.0f}",
                f"{result.cached_tokens or 0:,.0f}",
                percent(result.hit_ratio or 0.0),
                NOT_MEASURED if expected is None else percent(expected),
                f"{computed:,.0f}",
                _fewer(report.baseline, computed),
            ]
        )
    header = ["mode", "prompt tokens", "cached", "hit ratio", "simulated", "computed", "to plain"]
    exact = "Exact: prompt tokens of one repetition, and what the engine had to compute of them"
    return [f"{wrap(exact, terminal_width())}\n{shown_table(header, rows)}"]


def _fewer(baseline: ArmResult | None, computed: float) -> str:
    if baseline is None or not baseline.computed_tokens:
        return NOT_MEASURED
    return f"{100 * (computed / baseline.computed_tokens - 1):+.1f} %"


def _times(report: Report) -> str:
    base = report.baseline
    rows = []
    for result in report.results:
        ratio = result.throughput_ratio(base) if base else None
        limit = result.limit(base) if base else None
        spread = result.ttft
        rows.append(
            [
                result.name,
                f"{result.tokens_per_s:,.0f}",
                times_interval(ratio),
                NOT_MEASURED if limit is None else f"{limit:.2f}",
                times_interval(result.ttft_ratio),
                *(f"{1000 * value:,.0f}" for value in spread),
                f"{result.wall_s:,.1f}",
                f"{min(result.walls_s):,.1f}–{max(result.walls_s):,.1f}",
            ]
        )
    header = ["mode", "prefill tok/s", "× plain", "limit", "TTFT × faster"]
    header += ["TTFT mean ms", "p50", "p95", "p99", "wall s", "from–to"]
    return shown_table(header, rows)


def times_interval(interval: Interval | None) -> str:
    """Return a ratio with its interval, for example 2.03 [1.91–2.12]; one slice has none."""
    if interval is None:
        return NOT_MEASURED
    if interval.low == interval.high:
        return f"{interval.value:.2f}"
    return f"{interval.value:.2f} [{interval.low:.2f}–{interval.high:.2f}]"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def write_files(report: Report, folder: Path) -> list[Path]:
    """Write bench.json and, one row a request, bench.csv; return their paths."""
    figures, table = folder / "bench.json", folder / "bench.csv"
    figures.write_text(json.dumps(report.as_dict(), indent=2) + "\n", encoding="utf-8")
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(_rows(report))
    return [figures, table]


def _rows(report: Report) -> list[dict[str, Any]]:
    rows = []
    for each in report.passes:
        expected = report.expected.get(each.arm.name, {})
        for sent in each.sent:
            given = {name: getattr(sent, name, None) for name in _COLUMNS}
            rows.append(
                given
                | {
                    "mode": each.arm.name,
                    "repetition": each.repetition,
                    "cached_tokens": (sent.cached_tokens or 0) if report.reports_cache else None,
                    "expected_cached_tokens": expected.get(sent.position),
                }
            )
    return rows

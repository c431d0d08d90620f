"""The figures that scripts/bench_engines.py keeps, and how they are written in tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_picture import RATIO

from contextpilot.bench.report import times_interval
from contextpilot.bench.statistics import Interval
from contextpilot.engines.registry import kind_named

AGAIN = "again"


@dataclass(frozen=True)
class Found:
    """One workload on one launch of an engine."""

    case: dict[str, Any]
    report: dict[str, Any]

    @property
    def workload(self) -> str:
        """Its name."""
        return str(self.report["workload"]).partition(".")[0]

    @property
    def place(self) -> str:
        """Launch and workload."""
        return f"{self.case['case']} `{self.workload}`"

    @property
    def title(self) -> str:
        """Engine, version and cache."""
        engine = self.report["engine"]
        variant = f", {self.case['variant']}" if self.case["variant"] else ""
        tokens = engine["cache"]["tokens"]
        size = f" ({tokens:,} tokens)" if tokens else ""
        name = f"{kind_named(engine['kind']).title} {engine['version']}"
        return f"{name}, {self.case['cache']} cache{size}{variant}"

    @property
    def again(self) -> bool:
        """Whether it was run several times to show that figures come again."""
        return bool(self.case["variant"] == AGAIN)

    @property
    def modes(self) -> dict[str, dict[str, Any]]:
        """The figures of every mode."""
        return {mode["mode"]: mode for mode in self.report["modes"]}


def load(results: Path) -> list[Found]:
    """Return all figures, sorted by launch and workload."""
    order = ["vllm", "sglang", "llamacpp"]
    found = [
        Found(json.loads(path.read_text()), json.loads((path.parent / "bench.json").read_text()))
        for path in results.glob("*/*/case.json")
    ]
    return sorted(
        found,
        key=lambda f: (order.index(f.case["engine"]), f.case["variant"], f.case["cache"],
                       f.workload),
    )  # fmt: skip


def ratio(mode: dict[str, Any] | None, by: str = RATIO) -> str:
    given = mode and mode.get(by)
    return times_interval(Interval(**given) if given else None)


def hit(mode: dict[str, Any] | None, name: str = "hit_ratio") -> str:
    return "–" if mode is None or mode[name] is None else f"{100 * mode[name]:.1f}"


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    return "\n".join([_row(header), _row(["---"] * len(header)), *map(_row, rows)])

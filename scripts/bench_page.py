"""Writes docs/benchmarks.md and its pictures from the figures of scripts/bench_engines.py."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_picture import CPU, PLANNED, WALL, draw_overview

from contextpilot.bench.engine import NAMES
from contextpilot.bench.report import times_interval
from contextpilot.bench.statistics import Interval

WAITING = 16
POINTS = 2.0
SHARE = 0.85
GOALS = (
    ("batch, ≥ 2× on every `locomo*-top100`", "locomo", "batch", 2.0),
    ("online, ≥ 1.5× on every `locomo*-top100`", "locomo", "online", 1.5),
    ("batch, ≥ 1.25× on `nq`", "nq", "batch", 1.25),
    ("online, ≥ 1.1× on `nq`", "nq", "online", 1.1),
    ("online, ≥ 0.98× without overlap", "no-overlap", "online", 0.98),
    ("batch, ≥ 0.98× without overlap", "no-overlap", "batch", 0.98),
    ("proxy, ≥ 0.98× without overlap", "no-overlap", "proxy", 0.98),
)
ALT = "Hit ratio and prefill throughput over plain, by engine, cache and workload"

INTRODUCTION = """\
# Benchmarks

Real engines on a CPU, unchanged, with a random model: what they write means nothing, what they
compute and how long it takes is real. `scripts/bench_engines.py` makes every figure on this page
and the page itself; `contextpilot bench` makes the same figures on your engine and your requests.

Each mode sends the same requests, each from a cold cache. Hit ratio: prompt tokens from the prefix
cache per prompt token, as the engine reports them. × plain: prompt tokens per second of wall time
over those of the order as given, planning included, with a 95 % bootstrap interval over slices of
requests. Limit: (1 − hit ratio of plain) / (1 − hit ratio), what × plain would be if only computed
tokens took time. Hit ratios are exact, and the same when run again. The times come from a machine
on which other work ran meanwhile: wall times vary by what that work took, so that × plain is given
twice, by wall time and by the CPU time of the engine's processes, which other work changes less.
"""

EXPLANATION = """\
## What the simulation leaves out

*Simulated* is what `contextpilot simulate`'s cache expects of the same prompts in the same order,
weighed by the engine's tokenizer and rounded down to whole blocks of the engine's cache.

- It counts whole context blocks. Two blocks that begin alike, and the label `[7]` before a block
  that differs, hit a few tokens more in the engine.
- A request that is in flight cannot be hit before its prefill is done: with more than one request
  in flight, measured is below simulated.
- llama-server holds one prompt per slot, not a tree. Simulated is then its slots alone; with
  `--cache-ram` it keeps older prompts in the host's memory as well, and hits more.
- SGLang evicts whole leaves, vLLM blocks from the end: under a small cache both keep a little less
  or more than the simulation's whole context blocks.

## What a random model on a CPU leaves out

The order of the blocks changes what a real model answers; `contextpilot bench --answers` scores
that on your model. No real model was at hand for this page. SGLang's attention for CPUs computes
the attention of cached tokens again, so that its times fall short of the limit by more than on a
GPU. Requests were cut to the first so many of each workload to fit the machine: with all of them
the hit ratios of `nq` and `mtrag` are higher (`contextpilot simulate` shows them).
"""


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
        name = f"{NAMES[engine['kind']]} {engine['version']}"
        return f"{name}, {self.case['cache']} cache{size}{variant}"

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


def render_page(results: Path, page: Path) -> None:
    """Write the page, and its pictures beside it."""
    found = load(results)
    if not found:
        raise SystemExit(f"{results} holds no figures")
    parts = [INTRODUCTION, _machine(found), "## In one table\n", _summary(found)]
    shown = [each for each in found if not each.case["variant"]]
    picture = page.with_name(f"{page.stem}-overview.png")
    draw_overview([each.place for each in shown], [each.modes for each in shown], picture)
    parts.append(f"\n![{ALT}]({picture.name})")
    parts += ["\n## Goals\n", _goals(found), _scheduling(found)]
    parts += ["\n## Every figure\n", *_tables(found), EXPLANATION]
    parts += [_differences(found), "## Run it again\n", _commands(found)]
    page.write_text("\n".join(parts).rstrip() + "\n", encoding="utf-8")


def _machine(found: Sequence[Found]) -> str:
    lines = dict.fromkeys(f.case["machine"].partition(" · contextpilot")[0] for f in found)
    model = found[0].case["model"]
    versions = dict.fromkeys(f.title.partition(",")[0] for f in found)
    version = found[0].report["contextpilot"]
    return (
        f"Machine: {'; '.join(lines)}. contextpilot {version}; {', '.join(versions)}. "
        f"Model: Llama architecture, {model}.\n"
    )


def _ratio(mode: dict[str, Any] | None, by: str = WALL) -> str:
    ratio = mode and mode.get(by)
    return times_interval(Interval(**ratio) if ratio else None)


def _hit(mode: dict[str, Any] | None, name: str = "hit_ratio") -> str:
    return "–" if mode is None or mode[name] is None else f"{100 * mode[name]:.1f}"


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    return "\n".join([_row(header), _row(["---"] * len(header)), *map(_row, rows)])


def _summary(found: Sequence[Found]) -> str:
    rows = []
    for each in found:
        if each.case["variant"]:
            continue
        modes = each.modes
        hits = [_hit(modes.get(name)) for name in ("plain", *PLANNED)]
        ratios = [f"{_ratio(modes.get(name))}; {_ratio(modes.get(name), CPU)}" for name in PLANNED]
        engine, cache = NAMES[each.report["engine"]["kind"]], each.case["cache"]
        count = modes["plain"]["requests"]
        rows.append([engine, cache, f"`{each.workload}`", count, " / ".join(hits), *ratios])
    header = ["engine", "cache", "workload", "requests"]
    header += ["hit ratio %: plain / online / batch / proxy"]
    return _table(header + [f"{name}, × plain by wall; CPU" for name in PLANNED], rows)


def _scheduling(found: Sequence[Found]) -> str:
    """Compare SGLang's first-come-first-served with its longest-prefix-match scheduling."""
    rows = [
        [each.case["variant"], f"`{each.workload}`", mode["mode"], _hit(mode),
         f"{mode['computed_tokens']:,.0f}", f"{mode['tokens_per_s']:,.0f}"]
        for each in found
        if each.case["variant"]
        for mode in each.report["modes"]
    ]  # fmt: skip
    if not rows:
        return ""
    header = ["schedule policy", "workload", "mode", "hit %", "computed", "prefill tok/s"]
    return (
        "\n## SGLang's own longest-prefix scheduling\n\n"
        f"{WAITING} requests in flight, so that the scheduler has a choice.\n\n"
        + _table(header, rows)
    )


def _shares(found: Sequence[Found], by: str) -> Iterator[tuple[str, float]]:
    """Yield where, and the share of the limit, for planned modes whose limit is above 1.1."""
    for each in found:
        for name in PLANNED:
            mode = each.modes.get(name)
            limit = mode and mode["throughput_limit"]
            if mode and mode.get(by) and limit > 1.1:
                yield f"{each.place} {name}", mode[by]["value"] / limit


def _reached(found: Sequence[Found], workload: str, mode: str, by: str) -> list[tuple[str, float]]:
    """Return where, and how often plain's throughput a mode reached in large caches."""
    return [
        (each.place, each.modes[mode][by]["value"])
        for each in found
        if each.workload.startswith(workload) and each.modes.get(mode, {}).get(by)
        and each.case["cache"] == "large"
    ]  # fmt: skip


def _goals(found: Sequence[Found]) -> str:
    plain = [each for each in found if not each.case["variant"]]
    rows = []
    for text, workload, mode, least in GOALS:
        cells = []
        for by in (WALL, CPU):
            reached = _reached(plain, workload, mode, by)
            where = ", ".join(f"{place} {value:.2f}" for place, value in reached)
            cells.append(f"{_met([value >= least for _, value in reached])}: {where or 'none'}")
        rows.append([text, *cells])
    cells = []
    for by in (WALL, CPU):
        shares = list(_shares(plain, by))
        low = ", ".join(f"{p} {100 * share:.0f} %" for p, share in shares if share < SHARE)
        met = _met([share >= SHARE for _, share in shares])
        cells.append(f"{met}; below: {low or 'none'}")
    rows.append([f"≥ {100 * SHARE:.0f} % of the limit, where that is above 1.1", *cells])
    gaps = [abs(gap) for _, gap in _gaps(plain)]
    close = _met([gap <= POINTS for gap in gaps])
    median = f"median difference {_median(gaps):.2f} points"
    rows.append([f"hit ratio within {POINTS:.0f} points of simulated", close, median])
    return _table(["goal (large caches)", "by wall time", "by CPU time"], rows)


def _met(outcomes: Sequence[bool]) -> str:
    return f"{sum(outcomes)} of {len(outcomes)}"


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0


def _gaps(found: Sequence[Found]) -> Iterator[tuple[str, float]]:
    """Yield where, and measured minus simulated hit ratio in points."""
    for each in found:
        for name, mode in each.modes.items():
            if mode["expected_hit_ratio"] is not None:
                gap = 100 * (mode["hit_ratio"] - mode["expected_hit_ratio"])
                yield f"{each.place} {name}", gap


def _differences(found: Sequence[Found]) -> str:
    large = [(where, gap) for where, gap in _gaps(found) if abs(gap) > POINTS]
    if not large:
        return f"No difference on this page is above {POINTS:.0f} points.\n"
    listed = "\n".join(f"- {where}: {gap:+.1f} points" for where, gap in large)
    return f"## Differences above {POINTS:.0f} points\n\n{listed}\n"


def _tables(found: Sequence[Found]) -> Iterator[str]:
    header = ["workload", "mode", "requests", "prompt tokens", "hit %", "simulated %", "computed"]
    header += [
        "prefill tok/s",
        "× plain",
        "by CPU",
        "limit",
        "TTFT mean / p50 / p95 / p99 ms",
        "wall s",
    ]
    for title in dict.fromkeys(each.title for each in found):
        rows = []
        for each in found:
            if each.title == title:
                rows += [_mode_row(each, mode) for mode in each.report["modes"]]
        flags = next(each.case["flags"] for each in found if each.title == title)
        yield f"### {title}\n\nLaunched with `{flags}`.\n\n{_table(header, rows)}\n"


def _mode_row(each: Found, mode: dict[str, Any]) -> list[object]:
    ttft = " / ".join(f"{1000 * mode['ttft_s'][q]:,.0f}" for q in ("mean", "p50", "p95", "p99"))
    limit = mode["throughput_limit"]
    return [
        f"`{each.workload}`", mode["mode"], mode["requests"], f"{mode['prompt_tokens']:,.0f}",
        _hit(mode), _hit(mode, "expected_hit_ratio"), f"{mode['computed_tokens']:,.0f}",
        f"{mode['tokens_per_s']:,.0f}", _ratio(mode), _ratio(mode, CPU),
        f"{limit:.2f}" if limit else "–", ttft, f"{mode['wall_s']:,.0f}",
    ]  # fmt: skip


def _commands(found: Sequence[Found]) -> str:
    lines = ["```", "python scripts/engines/setup.py vllm sglang llamacpp",
             "python scripts/bench_engines.py WORKLOADS RESULTS", "```\n",
             "What that runs against each launch:\n", "```"]  # fmt: skip
    for each in found:
        lines.append(f"# {each.case['case']}: {each.case['seconds']} s")
        lines.append(each.case["command"])
    return "\n".join([*lines, "```"])

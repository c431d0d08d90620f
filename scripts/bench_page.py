"""Writes docs/benchmarks.md and its pictures from the figures of scripts/bench_engines.py."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench_comparisons import again, scheduling, tricks
from bench_costs import costs
from bench_figures import Found, hit, load, ratio, table
from bench_goals import POINTS, gaps, goals
from bench_picture import PLANNED, draw_overview

from contextpilot.engines.registry import kind_named

FULL = ("online-full", "batch-full")
ALT = "Hit ratio and prefill throughput over plain, by engine, cache and workload"

INTRODUCTION = """\
# Benchmarks

Real engines on a CPU, unmodified, with a random model: the output means nothing, but the work and
its times are real. `scripts/bench_engines.py` writes this page and all its figures;
`contextpilot bench` measures the same on your engine with your requests.

Each mode sends the same requests, starting from a cold cache.

- *Hit ratio*: the share of prompt tokens served from the prefix cache, as the engine reports it.
- *× plain*: prompt tokens per second of wall time, planning included, divided by those of the order
  as given, with a 95 % bootstrap interval over slices of requests.
- *Limit*: (1 − hit ratio of plain) / (1 − hit ratio): what × plain would be if only computed tokens
  took time.
- *TTFT × faster*: plain's mean TTFT divided by that of the mode, for the same requests. The tokens
  of the annotation only cost time here; × plain counts them as throughput.

Plans use the default options. `online-full` and `batch-full` move for any gain
(`displacement_cost=0`, no anchor), as versions before 2026-11-25 did.

If the cache holds the prompts of all modes, the modes took turns, eight requests each. In small
caches they ran one after another, so their ratios include whatever else the machine did meanwhile.
Under a high load average (below), trust times only within their intervals. Rows that were measured
more than once are in [figures.md](figures.md) with all their results. Hit ratios are exact, except
for a salt of a few tokens. Those of llama-server, whose slots and memory the modes shared, are up
to 1.4 points below what one mode alone would hit.
"""

_WORKLOADS = """\
The workloads are built from public data sets that you download: `scripts/workloads.py --help` names
them, and says how ranks differ from those behind this page.
"""
EXPLANATION = """\
## What the simulation leaves out

*Simulated* is what the cache of `contextpilot simulate` expects for the same prompts in the same
order, weighed by the engine's tokenizer and rounded down to whole blocks of the engine's cache.

- It counts whole context blocks. In the engine, two blocks that begin alike, and the label `[7]`
  before a different block, hit a few more tokens.
- A request in flight cannot be hit before its prefill is done. With more than one request in
  flight, measured is below simulated.
- llama-server holds one prompt per slot, not a tree, and with `--cache-ram` older ones in memory.
  Simulated is what its own choice of slots hits; the proxy chooses a slot itself.
- SGLang evicts whole leaves, vLLM blocks from the end. In a small cache both keep a little less or
  more than the whole context blocks of the simulation.

## What a random model on a CPU leaves out

The order of the blocks changes what a real model answers; `contextpilot bench --answers` scores
that with your model. This page used no real model. SGLang's attention on CPUs recomputes the
attention of cached tokens, so its times fall short of the limit by more than on a GPU.
"""


def render_page(
    results: Path, page: Path, simulated: Mapping[str, Mapping[str, float]] | None = None
) -> None:
    """Write the page, and its pictures beside it.

    Args:
        simulated: hit ratios of all requests of each workload, by mode.
    """
    found = load(results)
    if not found:
        raise SystemExit(f"{results} holds no figures")
    parts = [INTRODUCTION, _machine(found), "## Summary\n", _summary(found)]
    shown = [each for each in found if not each.case["variant"]]
    picture = page.with_name(f"{page.stem}-overview.png")
    draw_overview([each.place for each in shown], [each.modes for each in shown], picture)
    parts.append(f"\n![{ALT}]({picture.name})")
    parts += [
        "\n## Goals\n",
        goals(shown),
        costs(shown, results),
        _whole(simulated or {}),
        tricks(found),
    ]
    parts += [scheduling(found), again(found)]
    parts += ["\n## Every figure\n", *_tables(found), EXPLANATION]
    parts += [_differences(found), "## Reproduce\n", _commands(found)]
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).rstrip() + "\n"
    page.write_text(text, encoding="utf-8")


def _machine(found: Sequence[Found]) -> str:
    lines = dict.fromkeys(f.case["machine"].partition(" · contextpilot")[0] for f in found)
    models = dict.fromkeys(f"{kind_named(f.case['engine']).title} {f.case['model']}" for f in found)
    versions = dict.fromkeys(f.title.partition(",")[0] for f in found)
    version = found[0].report["contextpilot"]
    loads = [f.case["load"] for f in found if "load" in f.case]
    load = f" Load average while measuring: {min(loads)} to {max(loads)}." if loads else ""
    return (
        f"Machine: {'; '.join(lines)}.{load} contextpilot {version}; {', '.join(versions)}. "
        f"Models, Llama architecture: {'; '.join(models)}.\n"
    )


def _summary(found: Sequence[Found]) -> str:
    rows = []
    for each in found:
        if each.case["variant"]:
            continue
        modes = each.modes
        hits = [hit(modes.get(name)) for name in ("plain", *PLANNED)]
        ratios = [_of_limit(modes.get(name)) for name in PLANNED]
        first = [_value(modes.get(name), "ttft_ratio") for name in PLANNED]
        engine, cache = kind_named(each.report["engine"]["kind"]).title, each.case["cache"]
        count = modes["plain"]["requests"]
        full = [hit(modes.get(name)) for name in FULL]
        row = [engine, cache, f"`{each.workload}`", count, " / ".join(hits), *ratios]
        rows.append([*row, " / ".join(first), " / ".join(full)])
    header = ["engine", "cache", "workload", "requests"]
    header += ["hit ratio %: plain / online / batch / proxy"]
    header += [f"{name}, × plain (limit)" for name in PLANNED]
    header += ["TTFT × faster: online / batch / proxy", "hit ratio % at full gain: online / batch"]
    return table(header, rows)


def _of_limit(mode: dict[str, Any] | None) -> str:
    return "–" if mode is None else f"{ratio(mode)} ({mode['throughput_limit']:.2f})"


def _value(mode: dict[str, Any] | None, name: str) -> str:
    return "–" if mode is None else f"{mode[name]['value']:.2f}"


def _whole(simulated: Mapping[str, Mapping[str, float]]) -> str:
    """Tell what all requests of the workloads would hit, and the limits that follow."""
    if not simulated:
        return ""
    rows = []
    for name, own in simulated.items():
        limits = [f"{(1 - own['plain']) / (1 - own[mode]):.2f}" for mode in ("online", "batch")]
        hits = [
            " / ".join(f"{100 * own[mode]:.1f}" for mode in modes)
            for modes in (("plain", "online", "batch"), FULL)
        ]
        rows.append([f"`{name}`", f"{own['requests']:,.0f}", *hits, *limits])
    header = ["workload", "requests", "hit ratio %: plain / online / batch"]
    header += ["at full gain: online / batch", "limit, online"]
    return (
        "\nWith all requests of each workload, in an unlimited cache, by simulation (context\n"
        "tokens only):\n\n" + table([*header, "limit, batch"], rows) + "\n"
    )


def _differences(found: Sequence[Found]) -> str:
    rows = [
        [each.place, mode, f"{gap:+.1f}", _why(each, mode)]
        for each, mode, gap in gaps(found)
        if abs(gap) > POINTS
    ]
    if not rows:
        return f"No difference on this page is above {POINTS:.0f} points.\n"
    listed = table(["launch", "mode", "points", "why"], rows)
    return f"## Differences above {POINTS:.0f} points\n\n{listed}\n"


def _why(each: Found, mode: str) -> str:
    """Return what the simulation leaves out that tells most here."""
    if each.report["concurrency"] > 1:
        return f"{each.report['concurrency']} in flight cannot hit each other's prefill"
    if each.case["engine"] == "llamacpp" and mode == "proxy":
        return "the proxy chooses the slot; simulated is llama-server's own choice"
    if each.case["engine"] == "llamacpp" and "interleaved" in each.case["command"]:
        return "the modes shared its slots and memory"
    if mode == "proxy" and "--listen" in each.case["command"]:
        return "the proxy is told what is evicted; the simulated one is not"
    if each.case["cache"] == "small":
        return "evicts leaves or single blocks, not context blocks"
    return "unknown"


def _tables(found: Sequence[Found]) -> Iterator[str]:
    header = ["workload", "mode", "requests", "prompt tokens", "hit %", "simulated %", "computed"]
    header += ["prefill tok/s", "× plain", "limit", "TTFT mean / p50 / p95 / p99 ms"]
    header += ["TTFT × faster", "wall s"]
    for title in dict.fromkeys(each.title for each in found):
        rows = []
        for each in found:
            if each.title == title:
                rows += [_mode_row(each, mode) for mode in each.report["modes"]]
        flags = next(each.case["flags"] for each in found if each.title == title)
        yield f"### {title}\n\nLaunched with `{flags}`.\n\n{table(header, rows)}\n"


def _mode_row(each: Found, mode: dict[str, Any]) -> list[object]:
    ttft = " / ".join(f"{1000 * mode['ttft_s'][q]:,.0f}" for q in ("mean", "p50", "p95", "p99"))
    limit = mode["throughput_limit"]
    return [
        f"`{each.workload}`", mode["mode"], mode["requests"], f"{mode['prompt_tokens']:,.0f}",
        hit(mode), hit(mode, "expected_hit_ratio"), f"{mode['computed_tokens']:,.0f}",
        f"{mode['tokens_per_s']:,.0f}", ratio(mode), f"{limit:.2f}" if limit else "–", ttft,
        ratio(mode, "ttft_ratio"), f"{mode['wall_s']:,.0f}",
    ]  # fmt: skip


def _commands(found: Sequence[Found]) -> str:
    lines = [_WORKLOADS, "```", "python scripts/workloads.py WORKLOADS --locomo FILE --nq FILE",
             "python scripts/engines/setup.py vllm sglang llamacpp",
             "python scripts/bench_engines.py WORKLOADS RESULTS", "```\n",
             "This runs against each launch:\n", "```"]  # fmt: skip
    for each in found:
        lines.append(f"# {each.case['case']}: {each.case['seconds']} s")
        lines.append(each.case["command"])
    return "\n".join([*lines, "```"])

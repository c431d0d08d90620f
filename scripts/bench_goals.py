"""The goals of docs/benchmarks.md: what was to be reached, and what was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench_figures import Found, table
from bench_picture import CPU, PLANNED, WALL

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

NOTE = """

Where the limit itself is below a goal, no engine can meet it with these requests. What × plain
lacks to the limit: the engine's own work on a request (HTTP, tokenizer, scheduling), and attention,
which is dearest at the end of a prompt, where the tokens stand that have to be computed.
"""


def _shares(found: Sequence[Found], by: str) -> Iterator[tuple[str, float]]:
    """Yield where, and the share of the limit, for planned modes whose limit is above 1.1."""
    for each in found:
        for name in PLANNED:
            mode = each.modes.get(name)
            limit = mode and mode["throughput_limit"]
            if mode and mode.get(by) and limit > 1.1:
                yield f"{each.place} {name}", mode[by]["value"] / limit


def _reached(found: Sequence[Found], workload: str, mode: str, by: str) -> list[tuple[str, float]]:
    """Return where (with the limit), and what throughput over plain large caches reached."""
    return [
        (f"{each.place} (limit {each.modes[mode]['throughput_limit']:.2f})",
         each.modes[mode][by]["value"])
        for each in found
        if each.workload.startswith(workload) and each.modes.get(mode, {}).get(by)
        and each.case["cache"] == "large"
    ]  # fmt: skip


def goals(found: Sequence[Found]) -> str:
    plain = [each for each in found if not each.case["variant"]]
    rows = []
    for text, workload, mode, least in GOALS:
        cells = []
        for by in (WALL, CPU):
            reached = _reached(plain, workload, mode, by)
            where = ", ".join(f"{place} **{value:.2f}**" for place, value in reached)
            cells.append(f"{_met([value >= least for _, value in reached])}: {where or 'none'}")
        rows.append([text, *cells])
    cells = []
    for by in (WALL, CPU):
        shares = list(_shares(plain, by))
        low = ", ".join(f"{p} {100 * share:.0f} %" for p, share in shares if share < SHARE)
        met = _met([share >= SHARE for _, share in shares])
        cells.append(f"{met}; below: {low or 'none'}")
    rows.append([f"≥ {100 * SHARE:.0f} % of the limit, where that is above 1.1", *cells])
    found_gaps = [abs(gap) for _, gap in gaps(plain)]
    close = _met([gap <= POINTS for gap in found_gaps])
    median = f"median difference {_median(found_gaps):.2f} points"
    rows.append([f"hit ratio within {POINTS:.0f} points of simulated", close, median])
    return table(["goal (large caches)", "by wall time", "by CPU time"], rows) + NOTE


def _met(outcomes: Sequence[bool]) -> str:
    return f"{sum(outcomes)} of {len(outcomes)}"


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0


def gaps(found: Sequence[Found]) -> Iterator[tuple[str, float]]:
    """Yield where, and measured minus simulated hit ratio in points."""
    for each in found:
        for name, mode in each.modes.items():
            if mode["expected_hit_ratio"] is not None:
                gap = 100 * (mode["hit_ratio"] - mode["expected_hit_ratio"])
                yield f"{each.place} {name}", gap

"""The goals of docs/benchmarks.md: what was to be reached, and what was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench_figures import Found, table
from bench_picture import PLANNED, RATIO

POINTS = 2.0
SHARE = 0.85
WORTH = 1.1
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

*Limit allows*: if the limit itself is below a goal, no engine can meet it with these requests.
"""


def _shares(found: Sequence[Found]) -> Iterator[tuple[str, float]]:
    """Yield where, and the share of the limit, for planned modes whose limit is above 1.1."""
    for each in found:
        for name in PLANNED:
            mode = each.modes.get(name)
            limit = mode and mode["throughput_limit"]
            if mode and limit and limit > WORTH:
                yield f"{each.place} {name}", mode[RATIO]["value"] / limit


def _reached(found: Sequence[Found], workload: str, mode: str) -> list[tuple[str, float, float]]:
    """Return where, the throughput over plain that large caches reached, and its limit."""
    return [
        (each.place, each.modes[mode][RATIO]["value"], each.modes[mode]["throughput_limit"])
        for each in found
        if each.workload.startswith(workload)
        and mode in each.modes
        and each.case["cache"] == "large"
    ]


def goals(found: Sequence[Found]) -> str:
    """Return the goals, what was reached, and where the limit itself is below a goal."""
    rows = []
    for text, workload, mode, least in GOALS:
        reached = _reached(found, workload, mode)
        if not reached:
            continue
        where = ", ".join(
            f"{place} {'**' if ratio >= least else ''}{ratio:.2f}{'**' if ratio >= least else ''}"
            f" (limit {limit:.2f})"
            for place, ratio, limit in reached
        )
        possible = [limit >= least for _, _, limit in reached]
        met = _met([ratio >= least for _, ratio, _ in reached])
        rows.append([text, met, _met(possible), where])
    shares = list(_shares(found))
    low = ", ".join(f"{place} {100 * share:.0f} %" for place, share in shares if share < SHARE)
    met = _met([share >= SHARE for _, share in shares])
    middle = 100 * _median([share for _, share in shares])
    rows.append(
        [f"≥ {100 * SHARE:.0f} % of the limit, if that is above {WORTH}", met, "all",
         f"median {middle:.0f} %; below: {low or 'none'}"]
    )  # fmt: skip
    found_gaps = [abs(gap) for *_, gap in gaps(found)]
    close = _met([gap <= POINTS for gap in found_gaps])
    rows.append(
        [f"hit ratio within {POINTS:.0f} points of simulated", close, "all",
         f"median difference {_median(found_gaps):.2f} points"]
    )  # fmt: skip
    return table(["goal (large caches)", "met", "limit allows", "× plain"], rows) + NOTE


def _met(outcomes: Sequence[bool]) -> str:
    return f"{sum(outcomes)} of {len(outcomes)}"


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0


def gaps(found: Sequence[Found]) -> Iterator[tuple[Found, str, float]]:
    """Yield where, the mode, and measured minus simulated hit ratio in points."""
    for each in found:
        for name, mode in each.modes.items():
            if mode["expected_hit_ratio"] is not None:
                yield each, name, 100 * (mode["hit_ratio"] - mode["expected_hit_ratio"])

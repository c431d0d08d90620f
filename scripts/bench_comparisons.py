"""Sections of docs/benchmarks.md: cheap tricks, SGLang's scheduling, the same run again."""

from __future__ import annotations

from collections.abc import Sequence

from bench_figures import Found, hit, ratio, table

WAITING = 16


def tricks(found: Sequence[Found]) -> str:
    """Compare with what people try first, where it was measured."""
    rows = [
        [each.place, name, hit(mode), f"{mode['computed_tokens']:,.0f}", ratio(mode),
         ratio(mode, "ttft_ratio")]
        for each in found
        if "sorted" in each.modes
        for name, mode in each.modes.items()
    ]  # fmt: skip
    if not rows:
        return ""
    header = ["launch", "mode", "hit %", "computed", "× plain", "TTFT × faster"]
    return (
        "\n## Compared with simple tricks\n\n"
        "`sorted`: blocks of each request sorted by text. `dedup`: relevance order, copies in a\n"
        "request left out. `random`: shuffled.\n\n" + table(header, rows)
    )


def scheduling(found: Sequence[Found]) -> str:
    """Compare SGLang's first-come-first-served with its longest-prefix-match scheduling."""
    rows = [
        [each.case["variant"], f"`{each.workload}`", mode["mode"], hit(mode),
         f"{mode['computed_tokens']:,.0f}", f"{mode['tokens_per_s']:,.0f}"]
        for each in found
        if each.case["variant"] and not each.again
        for mode in each.report["modes"]
    ]  # fmt: skip
    if not rows:
        return ""
    header = ["schedule policy", "workload", "mode", "hit %", "computed", "prefill tok/s"]
    return (
        "\n## SGLang's own longest-prefix scheduling\n\n"
        f"{WAITING} requests in flight, so that the scheduler has a choice.\n\n"
        + table(header, rows)
    )


def again(found: Sequence[Found]) -> str:
    """Show each repetition of what was run several times, and its ranking of the modes."""
    parts = []
    for each in found:
        if not each.again:
            continue
        modes = each.report["modes"]
        walls = [mode["wall_s_by_repetition"] for mode in modes]
        hits = [mode["hit_ratio_by_repetition"] for mode in modes]
        rows = [
            [mode["mode"], " / ".join(f"{100 * h:.2f}" for h in own_hits),
             " / ".join(f"{wall:,.1f}" for wall in own_walls)]
            for mode, own_hits, own_walls in zip(modes, hits, walls, strict=True)
        ]  # fmt: skip
        rankings = [
            sorted(range(len(modes)), key=lambda m: walls[m][n]) for n in range(len(walls[0]))
        ]
        told = [" < ".join(modes[m]["mode"] for m in ranking) for ranking in rankings]
        parts.append(
            f"{each.place}, first {modes[0]['requests']} requests:\n\n"
            + table(["mode", "hit % of each repetition", "wall s of each"], rows)
            + f"\n\nBy wall time: {'; '.join(told)}.\n"
        )
    return "\n## Repeated runs\n\n" + "\n".join(parts) if parts else ""

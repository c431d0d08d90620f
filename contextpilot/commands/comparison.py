"""One workload replayed in every mode: the figures behind `simulate` and `demo`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from contextpilot.block import Block, unique
from contextpilot.commands.capacity import Capacity, resolve
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.replay import DEFAULT_WINDOW, MODES, Mode, Progress, hit_bound, replay_each
from contextpilot.plan.simulate import CacheTotals
from contextpilot.progress import ProgressBar
from contextpilot.tables import percent, shown_table, terminal_width, wrap

DEFAULT_CAPACITIES = ("unlimited", "5%", "1%")
_STEPS = 1_000
_MARGIN = " "


@dataclass(frozen=True)
class Comparison:
    """Hits and computed tokens of one workload.

    Attributes:
        num_requests: requests.
        num_blocks: different blocks in them.
        tokens: tokens of all blocks of all requests, later copies within a request left out.
        window: requests planned together in the mode "window".
        capacities: of the simulated caches.
        totals: for each mode the sums at each capacity.
        bound: what no order can exceed, at any capacity.
    """

    num_requests: int
    num_blocks: int
    tokens: int
    window: int
    capacities: tuple[Capacity, ...]
    totals: dict[Mode, tuple[CacheTotals, ...]]
    bound: CacheTotals

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as a dictionary, ready for JSON; ratios from 0 to 1."""
        return {
            "requests": self.num_requests,
            "blocks": self.num_blocks,
            "tokens": self.tokens,
            "window": self.window,
            "bound": _figures(self.bound),
            "capacities": [
                {"capacity": capacity.label, "capacity_tokens": capacity.tokens}
                | {mode: _figures(totals[i]) for mode, totals in self.totals.items()}
                for i, capacity in enumerate(self.capacities)
            ],
        }


def compare(
    contexts: Sequence[Sequence[Block]],
    capacities: Sequence[str] = DEFAULT_CAPACITIES,
    window: int = DEFAULT_WINDOW,
    bounds: Bounds | None = None,
    is_sparse: bool = False,
) -> Comparison:
    """Replay a workload in every mode; draws a progress bar in a terminal when it takes long.

    Arguments as of `replay_each`.
    """
    tokens = sum(block.weight for context in contexts for block in unique(context))
    sizes = tuple(resolve(text, tokens) for text in dict.fromkeys(capacities))
    totals: dict[Mode, tuple[CacheTotals, ...]] = {}
    with ProgressBar("simulating") as bar:
        for i, mode in enumerate(MODES):
            progress = _stage(bar, i, len(MODES))
            caches = [size.tokens for size in sizes]
            each = replay_each(
                *(contexts, mode, caches, window),
                bounds=bounds,
                progress=progress,
                is_sparse=is_sparse,
            )
            totals[mode] = tuple(each)
    return Comparison(
        num_requests=len(contexts),
        num_blocks=len({block.key for context in contexts for block in context}),
        tokens=tokens,
        window=window,
        capacities=sizes,
        totals=totals,
        bound=hit_bound(contexts),
    )


def label_of(mode: Mode, window: int) -> str:
    """Return how a mode is named in tables and figures."""
    return {
        "plain": "as given",
        "online": "online, one at a time",
        "synced": "online, evictions known",
        "window": f"windows of {window} waiting",
        "batch": "batch, all at once",
    }[mode]


def render(comparison: Comparison, name: str = "") -> str:
    """Return the comparison as text, as wide as the terminal: tables, then the same in words.

    Args:
        name: of the workload, to begin with.
    """
    width = terminal_width()
    ratios = [
        [label_of(mode, comparison.window), *(percent(each.hit_ratio) for each in totals)]
        for mode, totals in comparison.totals.items()
    ]
    computed = [
        [label_of(mode, comparison.window), *(f"{each.prefill_tokens:,}" for each in totals)]
        for mode, totals in comparison.totals.items()
    ]
    bound, columns = comparison.bound, len(comparison.capacities)
    ratios.append(["no order exceeds", *[percent(bound.hit_ratio)] * columns])
    computed.append(["no order goes below", *[f"{bound.prefill_tokens:,}"] * columns])
    header = ["cache size in tokens", *(each.title for each in comparison.capacities)]
    sizes = f"{name}: " if name else ""
    sizes += (
        f"{comparison.num_requests:,} requests, {comparison.num_blocks:,} different blocks, "
        f"{comparison.tokens:,} block tokens"
    )
    share = "Hit ratio: share of the block tokens that are already in the prefix cache"
    return "\n\n".join(
        [
            wrap(sizes, width),
            wrap(share, width) + "\n" + shown_table(header, ratios, _MARGIN),
            "Prefill: block tokens that the engine has to compute\n"
            + shown_table(header, computed, _MARGIN),
            "In words\n" + "\n".join(_sentences(comparison, width)),
        ]
    )


def _sentences(comparison: Comparison, width: int) -> list[str]:
    words: dict[Mode, str] = {
        "synced": "one request at a time",
        "window": f"{comparison.window} waiting requests together",
        "batch": "all requests together",
    }
    lines = []
    for i, capacity in enumerate(comparison.capacities):
        plain = comparison.totals["plain"][i].prefill_tokens
        changes = [
            f"{way} {_change(comparison.totals[mode][i].prefill_tokens, plain)}"
            for mode, way in words.items()
        ]
        size = "no limit" if capacity.tokens is None else f"{capacity.tokens:,} tokens"
        sentence = (
            f"Cache size {size}: the engine computes {plain:,} tokens for the order as given. "
            f"Planned {', '.join(changes)}."
        )
        lines.append(wrap(sentence, width, _MARGIN, _MARGIN * 3))
    return lines


def _change(tokens: int, plain: int) -> str:
    if not plain or tokens == plain:
        return "as many"
    share = percent(abs(plain - tokens) / plain)
    return f"{share} {'fewer' if tokens < plain else 'more'}"


def _figures(totals: CacheTotals) -> dict[str, float]:
    return {
        "hit_ratio": round(totals.hit_ratio, 6),
        "hit_tokens": totals.hits,
        "prefill_tokens": totals.prefill_tokens,
    }


def _stage(bar: ProgressBar, stage: int, num_stages: int) -> Progress:
    """Return a callback for one of several stages, shown as equal parts of one bar."""

    def progress(done: int, total: int) -> None:
        bar(stage * _STEPS + _STEPS * done // max(1, total), num_stages * _STEPS)

    return progress

"""What `contextpilot demo` found, on one screen, ending with what it is worth."""

from __future__ import annotations

from contextpilot.commands.before_after import BeforeAfter
from contextpilot.commands.comparison import Comparison
from contextpilot.plan.replay import Mode
from contextpilot.tables import percent, shown_table, wrap

_MINUTES, _DOLLARS = 60, 100
_NEXT = "contextpilot simulate FILE does this for your requests; demo --details shows more."


def render_screen(comparison: Comparison, shown: BeforeAfter, introduction: str, width: int) -> str:
    """Return the essence of a comparison, as long as a terminal is high."""
    ways: dict[Mode, str] = {
        "plain": "as given",
        "synced": "planned one by one",
        "window": f"planned {comparison.window} at a time",
        "batch": "planned all at once",
    }
    rows = [
        [way, *(percent(each.hit_ratio) for each in comparison.totals[mode])]
        for mode, way in ways.items()
    ]
    header = ["cache size in tokens", *(each.title for each in comparison.capacities)]
    share = f"Share of {comparison.tokens:,} prompt tokens that are already in the prefix cache"
    return "\n\n".join(
        [
            wrap(introduction, width),
            wrap(share, width) + "\n" + shown_table(header, rows),
            _request(shown, width),
            wrap(_NEXT, width),
            wrap(_worth(comparison), width),
        ]
    )


def _request(shown: BeforeAfter, width: int) -> str:
    """Return both orders of a request, and how much of it is in the cache."""
    explained, order = shown.explanation, [str(rank + 1) for rank in shown.after.order]
    live = explained.matched_blocks
    given = " ".join(map(str, range(1, len(order) + 1)))
    planned = f"[{' '.join(order[:live])}] {' '.join(order[live:])}"
    title = (
        f"Request {shown.position + 1}, [in the cache]: {explained.matched_tokens:,} of "
        f"{explained.total_tokens:,} tokens"
    )
    lines = [wrap(title, width)]
    for name, text in (("as given", given), ("planned", planned)):
        lines.append(wrap(text, width, f"  {name:<8}  ", " " * 12))
    return "\n".join(lines)


def _worth(comparison: Comparison) -> str:
    """Return what a cache without limit saves, in words that need no price of anyone's."""
    plain = comparison.totals["plain"][0].prefill_tokens

    def saved(mode: Mode) -> str:
        share = 1 - comparison.totals[mode][0].prefill_tokens / max(1, plain)
        return f"{share * _MINUTES:.0f} minutes and ${share * _DOLLARS:.0f}"

    return (
        f"Of every hour and every ${_DOLLARS} that reading these prompts costs as given, planning "
        f"saves {saved('synced')} one by one, {saved('batch')} all at once (unlimited cache), "
        "and answers start that much sooner."
    )

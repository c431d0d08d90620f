"""Sums over sessions, or what a server counted: as numbers, and in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from contextpilot.block import CHARS_PER_TOKEN
from contextpilot.savings.prices import Prices
from contextpilot.savings.repeats import find_repeats
from contextpilot.savings.stores import Call, Session
from contextpilot.tables import percent

FORMAT = 1
"""Of what `as_dict` returns."""
_COUNTS = (
    "results",
    "result_chars",
    "readings",
    "reading_chars",
    "runs",
    "run_chars",
    "sent_chars",
)


@dataclass
class Savings:
    """What was sent, from the cache, and twice. Amounts are None until a table prices something.

    Attributes:
        counts: as in `Repeats`, with `spared_chars` summed; empty where no messages are known.
        tokens: prompt, cached, written, output: as the provider told.
        spared_tokens: estimated from the characters that references would spare, or spared.
        paid, uncached, repeats: money for prompts, for the same without a cache, and for what
            was sent twice: `spared_tokens` at the mean price of their prompt's tokens.
        unpriced: calls by models that the table has no price for.
    """

    prices: Prices | None = None
    sessions: int = 0
    calls: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    spared_tokens: int = 0
    paid: float | None = None
    uncached: float = 0.0
    repeats: float = 0.0
    unpriced: Counter[str] = field(default_factory=Counter)

    def add(self, session: Session) -> None:
        """Count a session."""
        found = find_repeats(session)
        self.sessions += 1
        self.counts.update({name: getattr(found, name) for name in _COUNTS})
        self.counts["spared_chars"] += sum(found.spared_chars)
        for call, spared in zip(session.calls, found.spared_chars, strict=True):
            self.add_call(call, spared // CHARS_PER_TOKEN)

    def add_call(self, call: Call, spared_tokens: int = 0, number: int = 1) -> None:
        """Count a call of a model, or the sum of several."""
        self.calls += number
        told = {"prompt": call.prompt, "cached": call.cached}
        self.tokens.update({**told, "written": call.written, "output": call.output})
        spared = min(spared_tokens, call.prompt) if call.prompt else spared_tokens
        self.spared_tokens += spared
        price = self.prices.of(call.model) if self.prices is not None else None
        if price is None or not call.prompt:
            self.unpriced[call.model or "unknown"] += number if self.prices is not None else 0
            return
        paid = price.prompt(call)
        self.paid = (self.paid or 0.0) + paid + call.output * price.output / 1e6
        self.uncached += price.uncached(call) + call.output * price.output / 1e6
        self.repeats += paid * spared / call.prompt

    def as_dict(self) -> dict[str, Any]:
        """Return the counts, ready for JSON."""
        money = None
        if self.prices is not None:
            money = {
                "currency": self.prices.currency,
                "paid": None if self.paid is None else round(self.paid, 6),
                "without_cache": round(self.uncached, 6),
                "for_repeats": round(self.repeats, 6),
                "unpriced_calls": dict(+self.unpriced),
            }
        return {
            "format": FORMAT,
            "sessions": self.sessions,
            "calls": self.calls,
            "tokens": {n: self.tokens[n] for n in ("prompt", "cached", "written", "output")},
            "repeats": dict(self.counts) or None,
            "spared_tokens": self.spared_tokens,
            "money": money,
        }


def savings_lines(told: Mapping[str, Any], *, is_server: bool = False) -> Iterator[str]:
    """Yield a report in words.

    Args:
        told: as `Savings.as_dict` returns it.
        is_server: it is what a server counted: what is spared did not reach the engine.
    """
    tokens = told["tokens"]
    where = "" if is_server else f" in {told['sessions']:,} sessions"
    yield f"{told['calls']:,} model calls{where}"
    if tokens["prompt"]:
        written = f", {tokens['written']:,} written into it" if tokens["written"] else ""
        yield (
            f"prompt tokens reported by the provider: {tokens['prompt']:,}, of which "
            f"{tokens['cached']:,} from its cache "
            f"({percent(tokens['cached'] / tokens['prompt'])}){written}"
        )
    else:
        yield "the provider reported no token counts"
    if told["repeats"]:
        yield from _repeats(told["repeats"])
    spared, did = told["spared_tokens"], "saved" if is_server else "would save"
    yield f"references {did} about {spared:,} prompt tokens (estimated, four characters each)"
    yield from _money(told["money"], is_server=is_server)


def _repeats(counts: Mapping[str, int]) -> Iterator[str]:
    chars = max(1, counts["result_chars"])
    yield (
        f"tool results: {counts['results']:,} of {counts['result_chars']:,} characters; "
        f"read again: {counts['readings']:,} of {counts['reading_chars']:,} "
        f"({percent(counts['reading_chars'] / chars)})"
    )
    yield (
        f"runs of lines that appear earlier in the same prompt: {counts['runs']:,}; with every "
        f"call sent again, they are {counts['spared_chars']:,} of {counts['sent_chars']:,} "
        f"characters ({percent(counts['spared_chars'] / max(1, counts['sent_chars']))})"
    )


def _money(money: Mapping[str, Any] | None, *, is_server: bool) -> Iterator[str]:
    if money is None:
        return
    unit = f" {money['currency']}".rstrip()
    if money["paid"] is not None:
        kept = money["without_cache"] - money["paid"]
        what = "saved by references" if is_server else "text sent twice"
        yield (
            f"at your prices: {money['paid']:,.2f}{unit}; without the cache "
            f"{money['without_cache']:,.2f}{unit} ({kept:+,.2f}); {what}: "
            f"{money['for_repeats']:,.2f}{unit}"
        )
    for model, calls in money["unpriced_calls"].items():
        yield f"no price, or no token count, for {calls:,} calls of {model}"

"""What a server counted since it was started."""

from __future__ import annotations

import re
from collections import Counter

from contextpilot.client import Client
from contextpilot.savings.report import Savings
from contextpilot.savings.stores import Call

_SAMPLE = re.compile(r"^contextpilot_(\w+?)(?:\{[^}\n]*\})? ([0-9.e+]+)$", re.MULTILINE)
_TIMEOUT_S = 10.0


def add_server(savings: Savings, url: str, token: str | None = None) -> None:
    """Count what a server tells at `/metrics`; it knows no model: the default price is taken.

    Raises:
        ServerError: it does not answer, or is none of ours.
    """
    with Client(url, token=token, timeout_s=_TIMEOUT_S) as client:
        counts = samples(client.metrics())
    call = Call(
        at=0,
        prompt=counts["prefix_cache_queries_total"],
        cached=counts["prefix_cache_hits_total"],
    )
    spared = counts["dedup_tokens_saved_total"]
    savings.add_call(call, spared, counts["requests_total"])


def samples(text: str) -> Counter[str]:
    """Return the sum over all labels of each of our counters in Prometheus' text format."""
    sums: Counter[str] = Counter()
    for name, value in _SAMPLE.findall(text):
        sums[name] += int(float(value))
    return sums

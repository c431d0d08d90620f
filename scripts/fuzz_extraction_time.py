"""Looks for texts in which finding blocks takes long: the time over the size, and how it grows.

    python scripts/fuzz_extraction_time.py [--size 1048576] [--seconds 60] [--only TEXT] [--seed 1]

First the texts that are known to be hard, then random ones of the fragments that prompts are made
of, repeated; the slowest are mutated further. Prints milliseconds at a quarter and at the whole
of the size, and the growth: 1.0 is linear. What is measured is all that extraction does with one
request: find, key, count, write in reverse order.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS / "prompt"))

from hard_texts import FRAGMENTS, HARD, ROLES, messages_of, worked  # noqa: E402

import contextpilot  # noqa: E402

KEPT = 12


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1 << 20, help="characters of a text")
    parser.add_argument("--seconds", type=float, default=60.0, help="for random texts")
    parser.add_argument("--only", default="", help="hard texts whose name holds this")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    print(
        f"contextpilot {contextpilot.__version__}, Python {platform.python_version()}, "
        f"{platform.machine()}, {datetime.date.today()}; {args.size:,} characters"
    )
    print(f"{'text':40}{'a quarter':>12}{'whole':>12}{'growth':>9}")
    for name, make in HARD.items():
        if args.only in name:
            report(name, make, args.size)
    search(args.size, args.seconds, random.Random(args.seed))
    return 0


def seconds(messages: list[Any]) -> float:
    """Return the shortest of three times that extraction takes."""
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        worked(messages)
        best = min(best, time.perf_counter() - started)
        if best > 2:
            break
    return best


def report(name: str, make: Callable[[int], list[Any]], size: int) -> float:
    """Print one row; return the time at the whole size."""
    quarter, whole = seconds(make(size // 4)), seconds(make(size))
    growth = whole / quarter / 4
    print(f"{name[:39]:40}{1e3 * quarter:9.1f} ms{1e3 * whole:9.1f} ms{growth:9.2f}", flush=True)
    return whole


def search(size: int, budget: float, chance: random.Random) -> None:
    """Look for slow random texts, mutating the slowest; print those that were kept."""
    until = time.monotonic() + budget
    kept: list[tuple[float, list[str], str]] = []
    while time.monotonic() < until:
        if kept and chance.random() < 0.7:
            pattern = mutated(list(chance.choice(kept)[1]), chance)
        else:
            pattern = [chance.choice(FRAGMENTS) for _ in range(chance.randint(1, 6))]
        role = chance.choice(ROLES)
        unit = "".join(pattern)
        text = unit * (size // 8 // max(1, len(unit)) + 1)
        kept.append((seconds(messages_of(text[: size // 8], role)), pattern, role))
        kept = sorted(kept, reverse=True)[:KEPT]
    for _, pattern, role in kept:
        unit = "".join(pattern)

        def make(n: int, unit: str = unit, role: str = role) -> list[Any]:
            return messages_of((unit * (n // len(unit) + 1))[:n], role)

        report(f"{role}: {json.dumps(unit, ensure_ascii=False)}", make, size)


def mutated(pattern: list[str], chance: random.Random) -> list[str]:
    """Return a pattern with one fragment more, less or other."""
    at = chance.randrange(len(pattern) + 1)
    kind = chance.random()
    if kind < 0.4 or not pattern:
        return [*pattern[:at], chance.choice(FRAGMENTS), *pattern[at:]]
    at = min(at, len(pattern) - 1)
    if kind < 0.7 and len(pattern) > 1:
        return pattern[:at] + pattern[at + 1 :]
    pattern[at] = chance.choice(FRAGMENTS) * chance.randint(1, 40)
    return pattern


if __name__ == "__main__":
    import plainly

    plainly.run(main)

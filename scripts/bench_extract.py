"""What finding blocks costs: seconds per request, for each form, against parsing its JSON.

    python scripts/bench_extract.py [--blocks 20] [--words 150]

The ratio to `json.loads` of the same messages is what to compare between machines.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import contextpilot
from contextpilot.prompt.extract import extract_blocks

ROUNDS = 200


def forms(texts: list[str]) -> dict[str, dict[str, Any]]:
    """Return a message of each form that holds these texts."""
    numbered = list(enumerate(texts, start=1))
    ask = "\n\nQuestion: which of them is right?"
    xml = "\n".join(f'<document index="{i}">\n{text}\n</document>' for i, text in numbered)
    return {
        "XML elements": {"role": "user", "content": f"<documents>\n{xml}\n</documents>{ask}"},
        "[1] lists": {
            "role": "user",
            "content": "\n\n".join(f"[{i}] {text}" for i, text in numbered) + ask,
        },
        "JSON results": {
            "role": "tool",
            "name": "search",
            "content": json.dumps({"results": [{"id": i, "content": t} for i, t in numbered]}),
        },
        "rules": {"role": "tool", "name": "search", "content": "\n---\n".join(texts)},
        "no blocks": {"role": "user", "content": "\n\n".join(texts) + ask},
    }


def seconds(work: Callable[[], Any]) -> float:
    """Return the median time of a call."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--words", type=int, default=150, help="words in a block")
    args = parser.parse_args()
    chance = random.Random(1)
    texts = [
        " ".join(f"{chance.choice('abcdefgh') * chance.randint(2, 9)}" for _ in range(args.words))
        for _ in range(args.blocks)
    ]
    print(
        f"contextpilot {contextpilot.__version__}, Python {platform.python_version()}, "
        f"{platform.machine()}, {datetime.date.today()}; {args.blocks} blocks of {args.words} words"
    )
    print(f"{'form':14}{'characters':>11}{'find':>10}{'rebuild':>10}{'json.loads':>12}{'ratio':>7}")
    for name, message in forms(texts).items():
        report(name, message, args.blocks)


def report(name: str, message: dict[str, Any], blocks: int) -> None:
    """Print one row; times in microseconds."""
    found = extract_blocks([message])
    assert (found is None) is (name == "no blocks")
    assert found is None or len(found.texts) == blocks
    body = json.dumps([message])
    find = seconds(lambda: extract_blocks([message]))
    rebuild = 0.0
    if found is not None:
        rebuild = seconds(lambda: found.rebuild(range(blocks)[::-1]))
    parse = seconds(lambda: json.loads(body))
    print(
        f"{name:14}{len(body):11,}{1e6 * find:7.0f} µs{1e6 * rebuild:7.0f} µs{1e6 * parse:9.0f} µs"
        f"{(find + rebuild) / parse:7.1f}"
    )


if __name__ == "__main__":
    import plainly

    plainly.run(main)

"""Looks for prompts that deduplication takes long for; prints the worst, machine, versions, date.

    python scripts/fuzz_dedup_time.py [--seed 1] [--seconds 120] [--chars 250000]

A prompt is a few texts, each made of lines of some kinds, repeated, numbered, wrapped in JSON, cut
into messages, spoken or given as blocks. Those that took longest are changed and tried again. At
the end the worst are timed at 1 MB and 2 MB: seconds a MB, and time over size ("1.00" is linear).
"""

# ruff: noqa: ARG005

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from machine import machine_line

from contextpilot.block import BlockReader
from contextpilot.dedup.conversation import HINT_TEMPLATE, hints_for_history
from contextpilot.dedup.messages import rewrite_messages

KEPT = 6

LINES: dict[str, Callable[[random.Random, int], str]] = {
    "blank": lambda rng, at: "",
    "one letter": lambda rng, at: "a",
    "one of two": lambda rng, at: rng.choice("ab"),
    "brackets": lambda rng, at: rng.choice(["{", "}", "[", "]", "},", ""]),
    "equal": lambda rng, at: "the same line again and again, of some sixty characters or so",
    "rising": lambda rng, at: f"line {at} of all",
    "alike": lambda rng, at: "w" * 110 + str(at),
    "few": lambda rng, at: f"kind {rng.randrange(50)} of a line that is of some length",
    "numbered": lambda rng, at: f"{at + 1:6}\t    value = compute({at % 17})",
    "quoted": lambda rng, at: f'"key {at}": "value {at % 7}",',
    "spaces": lambda rng, at: " " * 60 + "x" * (at % 5),
    "references": lambda rng, at: f'[{at} lines omitted, same as tool result #1: "x"]',
    "half references": lambda rng, at: f"[{at} lines omitted, same as nothing in particular",
    "escapes": lambda rng, at: '\\n\\"\\u00e9\\\\' * 5,
    "fibonacci": lambda rng, at: "ab"[bin(at * 0x9E3779B9)[2:].count("1") % 2] * 9,
    "long": lambda rng, at: rng.choice("xyz") * 4000,
    "unicode": lambda rng, at: "é漢😀\u2028" * 8 + str(at % 3),
}
SHAPES = ("results", "halves", "growing", "many", "said first", "json", "json rows", "blocks")


class Case(NamedTuple):
    """How a prompt is made."""

    lines: tuple[str, ...]
    block: int
    shape: str
    seed: int


def text_of(case: Case, chars: int) -> str:
    """Stretches of lines of each kind in turn, `chars` characters in all."""
    rng = random.Random(case.seed)
    lines: list[str] = []
    size = at = 0
    while size < chars:
        make = LINES[case.lines[at // case.block % len(case.lines)]]
        line = make(rng, at)
        lines.append(line)
        size += len(line) + 1
        at += 1
    return "\n".join(lines)


def tool(content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": "call_1", "content": content}


def messages_of(case: Case, chars: int) -> list[dict[str, Any]]:
    """A prompt of about `chars` characters."""
    half = text_of(case, chars // 2)
    if case.shape == "said first":
        return [{"role": "user", "content": half}, tool(half + "\nend")]
    if case.shape == "growing":
        step = max(1, chars // 40)
        part = text_of(case, chars // 8)
        return [tool(part[: at % len(part) + 1]) for at in range(step, chars // 8 * 4, step)]
    if case.shape == "many":
        part = text_of(case, 200)
        return [tool(f"{part}{at}") for at in range(chars // (len(part) + 6))]
    if case.shape == "json":
        return [tool(json.dumps({"a": half})), tool(json.dumps({"b": half, "c": 1}))]
    if case.shape == "json rows":
        rows = [{"text": line} for line in half.split("\n")]
        return [tool(json.dumps(rows)), tool(json.dumps(rows[::-1]))]
    if case.shape == "halves":
        middle = len(half) // 2
        return [tool(half), tool(half[middle:] + "\n" + half[:middle])]
    return [tool(half), tool(half + "\nend")]


def seconds_per_mb(case: Case, chars: int, repeats: int = 1) -> float:
    """CPU seconds for a prompt, by a million of its characters; the best of some repeats."""
    work, total = prepared(case, chars)
    best = float("inf")
    for _ in range(repeats):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return best / total * 1e6


def prepared(case: Case, chars: int) -> tuple[Callable[[], object], int]:
    """What is timed, and of how many characters."""
    if case.shape == "blocks":
        text = text_of(case, chars // 2)
        size = max(200, len(text) // 100)
        blocks = BlockReader().read([text[at : at + size] for at in range(0, len(text), size)])
        history = [{"role": "user", "content": text}]
        return partial(hints_for_history, blocks, history, HINT_TEMPLATE), 2 * len(text)
    messages = messages_of(case, chars)
    total = sum(len(message["content"]) for message in messages)
    return partial(rewrite_messages, messages), total


def some_case(rng: random.Random) -> Case:
    kinds = tuple(rng.choices(list(LINES), k=rng.choice([1, 1, 2, 3])))
    return Case(kinds, rng.choice([1, 3, 50, 4000]), rng.choice(SHAPES), rng.randrange(10**6))


def changed(case: Case, rng: random.Random) -> Case:
    """The case with one thing changed."""
    other = some_case(rng)
    field = rng.choice(Case._fields)
    if field == "lines" and len(case.lines) < 4:
        return case._replace(lines=(*case.lines, other.lines[0]))
    return case._replace(**{field: getattr(other, field)})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--chars", type=int, default=250_000)
    options = parser.parse_args()
    print(machine_line("numpy"))
    rng = random.Random(options.seed)
    deadline = time.monotonic() + options.seconds
    worst: dict[Case, float] = {}
    tried = 0
    starts = [Case((kind,), 1, shape, 1) for kind in LINES for shape in SHAPES]
    while time.monotonic() < deadline or starts:
        case = starts.pop() if starts else changed(rng.choice(list(worst)), rng)
        case = some_case(rng) if not starts and rng.random() < 0.3 else case
        worst[case] = seconds_per_mb(case, options.chars)
        tried += 1
        worst = dict(sorted(worst.items(), key=lambda item: -item[1])[:KEPT])
    print(f"\n{tried} prompts tried at {options.chars / 1e6:g} MB; the worst again at 1 and 2 MB")
    print(f"{'s/MB':>6} {'over size':>9}  lines, stretch, shape")
    for case in worst:
        one, two = (seconds_per_mb(case, size, repeats=3) for size in (10**6, 2 * 10**6))
        made = f"{', '.join(case.lines)}; {case.block}; {case.shape}"
        print(f"{one:6.3f} {two / one:9.2f}  {made}", flush=True)


if __name__ == "__main__":
    import plainly

    plainly.run(main)

"""Print what a cache of whole chunks holds of planned prompts, and whether aligning to chunks pays.

    python scripts/bench_chunks.py --workloads DIR [--chunk 256] [--requests 400]

LMCache stores whole chunks of 256 tokens: of a shared prefix of 700 tokens it gives 512. Per
workload (NAME.json.gz with docs and requests), in percent of the blocks' tokens and with a cache
that forgets nothing: what tokens, blocks of 16 and chunks give; the same with `min_gain_tokens` of
one chunk, and the share of blocks that move; and how many tokens fewer are computed when a batch is
padded up to a chunk wherever that saves more than the padding costs, with all children of a prefix
known beforehand, and the padding that this writes into prompts.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from machine import machine_line

import contextpilot as cp
from contextpilot.block import estimate_tokens

Prompt = Sequence[tuple[str, int]]
"""Blocks in prompt order: text and tokens."""


@dataclass
class Prefix:
    """A prefix that prompts have in common: how many tokens it ends at, and what follows."""

    end: int = 0
    next: dict[str, Prefix] = field(default_factory=dict)
    passed: int = 0

    def add(self, prompt: Prompt) -> int:
        """Add a prompt; return the tokens that it shares with one before."""
        at, shared = self, 0
        for text, tokens in prompt:
            known = at.next.get(text)
            if known is not None:
                shared = known.end
            at = at.next.setdefault(text, Prefix(at.end + tokens))
            at.passed += 1
        return shared


def cached(prompts: Iterable[Prompt], unit: int) -> float:
    """Return the percentage of tokens that a cache of whole units has of each prompt."""
    root, hits, total = Prefix(), 0, 0
    for prompt in prompts:
        hits += root.add(prompt) // unit * unit
        total += sum(tokens for _, tokens in prompt)
    return 100 * hits / total


def padded(prompts: Sequence[Prompt], chunk: int) -> tuple[float, float]:
    """Return tokens computed less, and tokens written more, in percent, where padding pays."""
    root = Prefix()
    for prompt in prompts:
        root.add(prompt)
    saved = written = 0
    waiting = [(root, 0)]
    while waiting:
        at, shift = waiting.pop()
        rest = (at.end + shift) % chunk
        later = len(at.next) - 1  # each of these computes the rest of a chunk again
        gain = later * rest - (chunk - rest)
        if at is not root and rest and gain > 0:
            saved, written, shift = saved + gain, written + (chunk - rest) * at.passed, shift - rest
        waiting += [(each, shift) for each in at.next.values()]
    total = sum(tokens for prompt in prompts for _, tokens in prompt)
    return 100 * saved / total, 100 * written / total


def read(path: Path, limit: int) -> list[list[str]]:
    """Return the contexts of a workload, without later copies of a block."""
    with gzip.open(path) as file:
        workload = json.load(file)
    docs, requests = workload["docs"], workload["requests"][:limit]
    return [[docs[i] for i in dict.fromkeys(each["contexts"])] for each in requests]


def online(contexts: list[list[str]], **options: int) -> tuple[list[Prompt], float]:
    """Return the prompts, planned one after the other, and the percentage of blocks that moved."""
    pilot, prompts, moved = cp.ContextPilot(), [], 0
    for context in contexts:
        order = pilot.optimize(context, "", deduplicate=False, **options).order
        prompts.append(weighed(context[rank] for rank in order))
        moved += sum(rank != place for place, rank in enumerate(order))
    return prompts, 100 * moved / sum(map(len, contexts))


def batch(contexts: list[list[str]]) -> list[Prompt]:
    """Return the prompts of a planned batch, in the order of execution."""
    planned, _ = cp.ContextPilot().reorder(contexts)
    return [weighed(context) for context in planned]


def weighed(context: Iterable[str]) -> Prompt:
    """Return blocks with their tokens."""
    return [(text, estimate_tokens(text)) for text in context]


def main() -> None:
    """Print a line for each workload and way of planning."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workloads", type=Path, required=True, help="folder of NAME.json.gz")
    parser.add_argument("--chunk", type=int, default=256, help="tokens of a chunk")
    parser.add_argument("--requests", type=int, default=400, help="at most so many of a workload")
    arguments = parser.parse_args()
    paths = sorted(arguments.workloads.glob("*.json.gz"))
    if not paths:
        parser.error(f"no workloads (NAME.json.gz) in {arguments.workloads}")
    print(machine_line())
    for path in paths:
        report(path, arguments.chunk, arguments.requests)


def report(path: Path, chunk: int, limit: int) -> None:
    """Print the figures of one workload."""
    contexts = read(path, limit)
    given = [weighed(context) for context in contexts]
    usual, moved = online(contexts)
    thrifty, fewer = online(contexts, min_gain_tokens=chunk)
    planned = batch(contexts)
    print(f"{path.name.partition('.')[0]}, {len(contexts)} requests: of tokens / 16 / {chunk}")
    for name, prompts, note in (
        ("in the order given", given, ""),
        ("online", usual, f"; {moved:.0f}% of blocks move"),
        (f"online, min_gain_tokens={chunk}", thrifty, f"; {fewer:.0f}% of blocks move"),
        ("batch", planned, ""),
    ):
        cells = " / ".join(f"{cached(prompts, unit):5.1f}" for unit in (1, 16, chunk))
        print(f"  {name:32} {cells}{note}", flush=True)
    saved, written = padded(planned, chunk)
    print(
        f"  {'batch, padded to chunks':32} {saved:.2f}% computed less, {written:.2f}% written more"
    )


if __name__ == "__main__":
    import plainly

    plainly.run(main)

"""Print what planning does to a real model's answers, at several costs and anchors.

    python scripts/bench_answers.py --engine URL --questions questions.jsonl --journal answers.jsonl
        [--count 200] [--ways plain 50 0 50+end reversed]

A way is a `displacement_cost`, with `+end`, `+end2` or `+moved` for the anchor; `plain` and
`reversed` need no planner. Every answer is written to the journal at once, by what was asked: a run
that was cut off goes on where it was, and prompts that several ways share are asked once. Greedy
decoding. The URL is any OpenAI-compatible one, its key in CONTEXTPILOT_ENGINE_KEY; `contextpilot
bench --answers` measures an engine's cache and times besides.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from machine import machine_line

from contextpilot.bench.answers import gold_found, token_f1
from contextpilot.bench.paired import CLASSES, McNemar, class_of
from contextpilot.bench.prompts import Prompt, Requests, written
from contextpilot.bench.statistics import Interval, mean_of
from contextpilot.block import BlockReader
from contextpilot.index import ContextIndex
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import OnlinePlanner
from contextpilot.plan.simulate import PrefixCache
from contextpilot.plan.support import SupportWindow

_WAY = re.compile(r"(\d+)(?:\+(end|moved)(\d*))?")
_TOKENS = 24


class Questions:
    """Requests with gold answers."""

    def __init__(self, path: Path, count: int | None) -> None:
        lines = path.read_text("utf-8").splitlines()[:count]
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        contexts = BlockReader().read_batch([row["contexts"] for row in rows])
        self.requests = Requests([row["query"] for row in rows], contexts)
        self.gold: list[list[str]] = [row["answers"] for row in rows]


class Journal:
    """Answers by prompt, kept in a file as they come."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        rows = [json.loads(line) for line in lines]
        self._known: dict[str, str] = {row["prompt"]: row["answer"] for row in rows}

    def get(self, prompt: Prompt) -> str | None:
        """Return the answer to a prompt, if it was asked."""
        return self._known.get(_key(prompt))

    def add(self, prompt: Prompt, answer: str) -> None:
        """Keep an answer."""
        self._known[_key(prompt)] = answer
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"prompt": _key(prompt), "answer": answer}) + "\n")


def _key(prompt: Prompt) -> str:
    return hashlib.sha256(str(prompt.messages[-1]["content"]).encode()).hexdigest()[:24]


def prompts_of(questions: Questions, way: str) -> tuple[list[Prompt], float]:
    """Return the prompts of one way, and the hit ratio of their blocks in an ideal cache."""
    contexts = questions.requests.contexts
    cache, orders = PrefixCache(None), list(_orders(contexts, way))
    prompts = []
    for position, order in enumerate(orders):
        prompt = written(questions.requests, position, order, "")
        system = {"role": "system", "content": questions.requests.system}
        prompt.messages[0] = system  # without a salt: nothing of the cache is measured here
        prompts.append(prompt)
        blocks = [contexts[position][rank] for rank in order]
        weights = {block.key: block.weight for block in blocks}
        cache.request([block.key for block in blocks], weights, str(position))
    return prompts, cache.totals.hit_ratio


def _orders(contexts: Sequence[Sequence[Any]], way: str) -> Iterator[Sequence[int]]:
    planner = OnlinePlanner(ContextIndex(), SupportWindow())
    for position, context in enumerate(contexts):
        ranks = range(len(context))
        if way in ("plain", "reversed"):
            yield ranks if way == "plain" else ranks[::-1]
            continue
        plan = planner.plan(context, bounds_of(way))
        planner.learn(context, plan, str(position))
        yield plan.order


def bounds_of(way: str) -> Bounds:
    """Return the bounds that a way names."""
    found = _WAY.fullmatch(way)
    if found is None:
        raise SystemExit(f"{way!r} is no way: give plain, reversed, a cost, or a cost with +end")
    cost, anchor, blocks = found.groups()
    return Bounds(
        displacement_cost=int(cost), anchor=anchor or "none", anchor_blocks=int(blocks or 1)
    )


def ask(url: str, prompt: Prompt) -> str:
    """Return what the model answers."""
    body = {
        "messages": list(prompt.messages),
        "max_tokens": _TOKENS,
        "temperature": 0,
        "seed": 1,
        "model": os.environ.get("CONTEXTPILOT_MODEL", "default"),
    }
    headers = {"Content-Type": "application/json"}
    key = os.environ.get("CONTEXTPILOT_ENGINE_KEY")
    if key:
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(
        f"{url.rstrip('/')}/v1/chat/completions", json.dumps(body).encode(), headers
    )
    with urllib.request.urlopen(request) as reply:
        return str(json.load(reply)["choices"][0]["message"]["content"])


def report(
    questions: Questions, ways: dict[str, tuple[list[Prompt], float]], known: Journal
) -> None:
    """Print every way beside the first, on the questions that all ways have answers to."""
    positions = [
        position
        for position in range(len(questions.gold))
        if all(known.get(prompts[position]) is not None for prompts, _ in ways.values())
    ]
    print(f"{len(positions)} questions; intervals of 95 %; p: McNemar's exact test")
    base: dict[str, list[float]] = {}
    for way, (prompts, hits) in ways.items():
        answers = [known.get(prompts[position]) or "" for position in positions]
        golds = [questions.gold[position] for position in positions]
        pairs = list(zip(answers, golds, strict=True))
        scores = {
            "found": [gold_found(answer, gold) for answer, gold in pairs],
            "F1": [token_f1(answer, gold) for answer, gold in pairs],
        }
        base = base or scores
        changes = {
            name: [own - theirs for own, theirs in zip(scores[name], base[name], strict=True)]
            for name in scores
        }
        test = McNemar.of(changes["found"])
        shown = [f"{way:10s} hits {100 * hits:4.1f} %"]
        for name, values in scores.items():
            change = _points(mean_of(changes[name]))
            shown.append(f"{name} {_points(mean_of(values), '').split()[0]} %, to plain {change}")
        shown.append(f"gained {test.gained}, lost {test.lost}, p {test.p:.2f}")
        print("; ".join(shown))
        classes = [class_of(prompts[position]) for position in positions]
        parts = []
        for name in CLASSES:
            own = [c for c, of in zip(changes["found"], classes, strict=True) if of == name]
            if own and way != next(iter(ways)):
                parts.append(f"{name} {_points(mean_of(own))} ({len(own)})")
        if parts:
            print(f"{'':10s} found by displacement: " + "; ".join(parts))


def _points(interval: Interval, sign: str = "+") -> str:
    value, low, high = (100 * number for number in interval)
    return f"{value:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def main() -> None:
    """Ask what the journal lacks, then print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", help="without it, print what the journal holds")
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--count", type=int)
    parser.add_argument("--ways", nargs="+", default=["plain", "50", "0", "50+end", "reversed"])
    arguments = parser.parse_args()
    questions = Questions(arguments.questions, arguments.count)
    ways = {way: prompts_of(questions, way) for way in arguments.ways}
    journal = Journal(arguments.journal)
    if arguments.engine:
        for position in range(len(questions.gold)):
            for prompts, _ in ways.values():
                if journal.get(prompts[position]) is None:
                    journal.add(prompts[position], ask(arguments.engine, prompts[position]))
    print(machine_line("numpy"))
    report(questions, ways, journal)


if __name__ == "__main__":
    main()

"""Print what planning does to a real model's answers, at several costs and anchors.

    python scripts/bench_answers.py (--engine URL | --model FOLDER) --questions questions.jsonl
        --journal answers.jsonl [--count 200] [--ways plain 25+moved 0 50+end reversed] [--changed]
        [--at-once 16]

A way is a `displacement_cost`, with `+end`, `+end2` or `+moved` for the anchor and `+note` for the
ranking that is written where blocks moved far; `batch:` before it plans all questions as one batch;
`plain` and `reversed` need no planner. Every answer is written to the journal at once, by what was
asked: a run that was cut off goes on where it was, and prompts that several ways share are asked
once. `--system` and `--asked` change the form. `--model` needs no engine: transformers runs the
model of a folder, on a GPU if there is one, `--at-once` prompts together.
`--changed` asks only where the ways' prompts differ: elsewhere no answer can change; `--at-once`
keeps an engine busy that answers several requests together. Greedy decoding. The URL is any
OpenAI-compatible one, its key in CONTEXTPILOT_ENGINE_KEY; `contextpilot bench --answers` also
measures an engine's cache and times.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from machine import machine_line

from contextpilot.bench.answers import gold_found, token_f1
from contextpilot.bench.paired import CLASSES, McNemar, class_of
from contextpilot.bench.prompts import QUESTION, SYSTEM, Prompt, Requests, written
from contextpilot.bench.statistics import mean_of
from contextpilot.block import BlockReader
from contextpilot.index import ContextIndex
from contextpilot.plan.batch import BatchPlanner
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import OnlinePlanner, Plan
from contextpilot.plan.simulate import PrefixCache
from contextpilot.plan.support import SupportWindow
from contextpilot.prompt.annotate import annotate
from contextpilot.prompt.messages import Messages

_BATCH = "batch:"
_NOTE = "+note"
_WAY = re.compile(r"(\d+)(?:\+(end|moved)(\d*))?")
_TOKENS = 24
PLACES = ("first", "next to the question", "between")


class Questions:
    """Requests with gold answers."""

    def __init__(
        self, path: Path, count: int | None, system: str = SYSTEM, asked: str = QUESTION
    ) -> None:
        lines = path.read_text("utf-8").splitlines()[:count]
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        contexts = BlockReader().read_batch([row["contexts"] for row in rows])
        self.requests = Requests([row["query"] for row in rows], contexts, system, asked)
        self.gold: list[list[str]] = [row["answers"] for row in rows]


class Journal:
    """Answers by prompt, kept in a file as they come, from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        rows = [json.loads(line) for line in lines]
        self._known: dict[str, str] = {row["prompt"]: row["answer"] for row in rows}

    def get(self, prompt: Prompt) -> str | None:
        """Return the answer to a prompt, if it was asked."""
        return self._known.get(_key(prompt))

    def add(self, prompt: Prompt, answer: str) -> None:
        """Keep an answer."""
        self._known[_key(prompt)] = answer
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"prompt": _key(prompt), "answer": answer}) + "\n")


def _key(prompt: Prompt) -> str:
    return hashlib.sha256(json.dumps(list(prompt.messages)).encode()).hexdigest()[:24]


def prompts_of(questions: Questions, way: str) -> tuple[list[Prompt], float]:
    """Return the prompts of one way, and the hit ratio of their blocks in an ideal cache."""
    contexts = questions.requests.contexts
    cache, prompts = PrefixCache(None), dict[int, Prompt]()
    for position, order in _orders(contexts, way):
        note = annotate(order) if way.endswith(_NOTE) else ""
        prompt = written(questions.requests, position, order, "", note)
        system = {"role": "system", "content": questions.requests.system}
        # Without a salt: nothing of the cache is measured here.
        prompt.messages[:1] = [system] if system["content"] else []
        prompts[position] = prompt
        blocks = [contexts[position][rank] for rank in order]
        weights = {block.key: block.weight for block in blocks}
        cache.request([block.key for block in blocks], weights, str(position))
    return [prompts[position] for position in sorted(prompts)], cache.totals.hit_ratio


def _orders(contexts: Sequence[Sequence[Any]], way: str) -> Iterator[tuple[int, Sequence[int]]]:
    if way in ("plain", "reversed"):
        for position, context in enumerate(contexts):
            yield position, range(len(context))[:: 1 if way == "plain" else -1]
        return
    planner, bounds = OnlinePlanner(ContextIndex(), SupportWindow()), bounds_of(way)
    for position, plan in _plans(planner, contexts, bounds, way.startswith(_BATCH)):
        planner.learn(contexts[position], plan, str(position))
        yield position, plan.order


def _plans(
    planner: OnlinePlanner, contexts: Sequence[Sequence[Any]], bounds: Bounds, as_batch: bool
) -> Iterator[tuple[int, Plan]]:
    if as_batch:
        batch = BatchPlanner(planner)
        yield from batch.walk(contexts, batch.prepare(contexts, bounds), bounds)
        return
    for position, context in enumerate(contexts):
        yield position, planner.plan(context, bounds)


def bounds_of(way: str) -> Bounds:
    """Return the bounds that a way names."""
    found = _WAY.fullmatch(way.removeprefix(_BATCH).removesuffix(_NOTE))
    if found is None:
        raise SystemExit(f"{way!r} is no way: give plain, reversed, or a cost, with +end, +note")
    cost, anchor, blocks = found.groups()
    return Bounds(
        displacement_cost=int(cost), anchor=anchor or "none", anchor_blocks=int(blocks or 1)
    )


def unasked(
    ways: dict[str, tuple[list[Prompt], float]], known: Journal, changed: bool
) -> list[Prompt]:
    """Return each prompt that the journal lacks once, all ways of a question in a row."""
    missing = {}
    for of_ways in zip(*(prompts for prompts, _ in ways.values()), strict=True):
        by_key = {_key(prompt): prompt for prompt in of_ways}
        if not changed or len(by_key) > 1:
            missing |= {key: p for key, p in by_key.items() if known.get(p) is None}
    return list(missing.values())


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
    """Print every way beside the first, up to the first question that some way has no answer to.

    Where all send the same prompt, the change is none, answered or not.
    """
    prompts_by_way = [prompts for prompts, _ in ways.values()]
    asked, same = [], 0
    for position, of_ways in enumerate(zip(*prompts_by_way, strict=True)):
        if all(known.get(prompt) is not None for prompt in of_ways):
            asked.append(position)
        elif len({_key(prompt) for prompt in of_ways}) == 1:
            same += 1
        else:  # what follows would count unchanged questions only
            break
    print(f"{len(asked)} questions answered, {same} more with the same prompt in every way; ")
    print("changes are over both, with intervals of 95 %; p: McNemar's exact test")
    if not asked and not same:
        return
    base: dict[str, list[float]] = {}
    for way, (prompts, hits) in ways.items():
        pairs = [(known.get(prompts[at]) or "", questions.gold[at]) for at in asked]
        scores = {
            "found": [gold_found(answer, gold) for answer, gold in pairs],
            "F1": [token_f1(answer, gold) for answer, gold in pairs],
        }
        base = base or scores
        changes = {
            name: [own - theirs for own, theirs in zip(scores[name], base[name], strict=True)]
            for name in scores
        }
        shown = [f"{way:8s} hits {100 * hits:4.1f} %"]
        for name, values in scores.items():
            mean = 100 * sum(values) / max(1, len(values))
            change = _change([*changes[name], *[0.0] * same])
            shown.append(f"{name} {mean:.1f} %, to {next(iter(ways))} {change}")
        test = McNemar.of(changes["found"])
        shown.append(f"gained {test.gained}, lost {test.lost}, p {test.p:.2f}")
        print("; ".join(shown))
        if scores is not base:
            own = [prompts[at] for at in asked]
            moved = [class_of(prompt) or "" for prompt in own]
            print(" " * 9 + "found, " + _by_class(changes["found"], moved, CLASSES))
            places = [_place_of_best(prompt) for prompt in own]
            print(" " * 9 + "best block " + _by_class(changes["found"], places, PLACES))


def _by_class(changes: Sequence[float], classes: Sequence[str], names: Sequence[str]) -> str:
    """Return the change of the answered questions by the classes of these names."""
    parts = []
    for name in names:
        own = [change for change, of in zip(changes, classes, strict=True) if of == name]
        if own:
            parts.append(f"{name} {_change(own)} ({len(own)})")
    return "; ".join(parts)


def _place_of_best(prompt: Prompt) -> str:
    """Return where the most relevant block stands."""
    assert isinstance(prompt.messages, Messages)
    order = prompt.messages.order
    return PLACES[0] if order[0] == 0 else PLACES[1 if order[-1] == 0 else 2]


def _change(values: Sequence[float]) -> str:
    value, low, high = (100 * number for number in mean_of(values))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def main() -> None:
    """Ask what the journal lacks, then print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", help="without either, print what the journal holds")
    parser.add_argument("--model", metavar="FOLDER", help="run this model here, no engine")
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--count", type=int)
    parser.add_argument(
        "--ways", nargs="+", default=["plain", "25+moved", "0", "25+end", "reversed"]
    )
    parser.add_argument("--changed", action="store_true", help="ask only where prompts differ")
    parser.add_argument("--at-once", type=int, default=1, help="requests in flight")
    parser.add_argument("--system", default=SYSTEM, help='system message; "" for none')
    parser.add_argument("--asked", default=QUESTION, help="how to ask, with {query}")
    arguments = parser.parse_args()
    questions = Questions(arguments.questions, arguments.count, arguments.system, arguments.asked)
    ways = {way: prompts_of(questions, way) for way in arguments.ways}
    journal = Journal(arguments.journal)
    missing = unasked(ways, journal, arguments.changed)
    if arguments.model:
        from local_answers import LocalModel

        model = LocalModel(arguments.model)
        for prompt, answer in model.answers(missing, arguments.at_once, _TOKENS):
            journal.add(prompt, answer)
    elif arguments.engine:

        def fill(prompt: Prompt) -> None:
            journal.add(prompt, ask(arguments.engine, prompt))

        with ThreadPoolExecutor(arguments.at_once) as threads:
            list(threads.map(fill, missing))
    print(machine_line("numpy", *(["torch", "transformers"] if arguments.model else [])))
    report(questions, ways, journal)


if __name__ == "__main__":
    import plainly

    plainly.run(main)

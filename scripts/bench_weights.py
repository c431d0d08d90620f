"""How far weights are from what real tokenizers count, by language: before, now, and once learnt.

    python scripts/bench_weights.py [--tokenize http://127.0.0.1:8080 --name SmolLM2]

`before` is a quarter of the characters; `estimate` counts by script; `learnt` is the estimate after
64 prompts in that language whose tokens the engine told, `mixed` after 64 prompts in all of them.
Prompts are random sentences of the same texts behind 300 tokens of tools and template that the
estimate does not see. Errors are relative to what the tokenizer counts.
"""

from __future__ import annotations

import argparse
import random
import re
import timeit
from collections.abc import Sequence
from statistics import mean

from machine import machine_line
from weights.texts import TEXTS
from weights.tokenizers import Count, packaged, served

from contextpilot.tokens import TokenScale, text_tokens

_CONSTANT = 300
_NUM_PROMPTS = 64


def main() -> None:
    """Print a table for each tokenizer, the means, and what an estimate takes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokenize", metavar="URL", help="an engine with /tokenize")
    parser.add_argument("--name", default="the engine's", help="what to call its tokenizer")
    given = parser.parse_args()
    print(machine_line("tiktoken", "tokenizers", "litellm", "dashscope", "mistral-common"))
    found = list(packaged())
    if given.tokenize:
        found.append((given.name, served(given.tokenize)))
    means = [(name, show(name, count)) for name, count in found]
    print("\nmean error, all texts alike")
    print(_row("", "before", "estimate", "learnt", "mixed"))
    for name, (before, estimate, learnt, mixed) in means:
        print(_row(name, *(f"{100 * value:.0f} %" for value in (before, estimate, learnt, mixed))))
    for name in ("English", "Chinese"):
        text = (TEXTS[name] * 20)[:2000]
        took = min(timeit.repeat(lambda text=text: text_tokens(text), number=500, repeat=5)) / 500
        print(f"an estimate of 1,000 characters of {name}: {1e6 * took / 2:.1f} µs")


def show(name: str, count: Count) -> tuple[float, float, float, float]:
    """Print a tokenizer's table; return the mean errors."""
    print(f"\n{name}")
    print(_row("text", "tokens", "before", "estimate", "learnt", "mixed"))
    mixed = learnt_ratio(list(TEXTS.values()), count)
    errors = []
    for language, text in TEXTS.items():
        tokens, estimate = count(text), text_tokens(text)
        guesses = [
            len(text) // 4,
            estimate,
            estimate * learnt_ratio([text], count),
            estimate * mixed,
        ]
        errors.append([guess / tokens - 1 for guess in guesses])
        print(_row(language, str(tokens), *(f"{100 * error:+.0f} %" for error in errors[-1])))
    before, now, alone, together = (mean(map(abs, column)) for column in zip(*errors, strict=True))
    return before, now, alone, together


def learnt_ratio(texts: Sequence[str], count: Count) -> float:
    """Return the factor after prompts made of these texts' sentences."""
    draw, scale = random.Random(1), TokenScale()
    sentences = [re.split(r"(?<=[.;,。、\n·]) ?", text) for text in texts]
    for number in range(_NUM_PROMPTS):
        own = draw.choice(sentences)
        prompt = " ".join(draw.choices(own, k=draw.randint(20, 120)))
        scale.expect(str(number), text_tokens(prompt))
        scale.count(str(number), count(prompt) + _CONSTANT)
    return scale.ratio


def _row(first: str, *cells: str) -> str:
    return f"{first:18}" + "".join(f"{cell:>10}" for cell in cells)


if __name__ == "__main__":
    import plainly

    plainly.run(main)

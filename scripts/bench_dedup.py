"""Characters saved and speed of `deduplicate_messages`; prints machine, versions and date.

    python scripts/bench_dedup.py [--seed 1] [--largest-mb 16] [--repeats 3] [--skip-speed]

Near-identical documents: a template of about 45 KB, four variants of it as tool results; in each
variant every line that is not blank is changed with the given probability, independently (the
hardest case: real edits cluster). "Possible" counts the characters (with line ends) of lines that
stand earlier in the prompt: what exact line-level repetition allows, references at no cost.

Whole conversations: near-identical documents that a tool returns one after another with single
clauses changed, a code file that is read three times with edits in between, a file read again as it
was. Each reference is followed by a program of its own, and first readings are compared.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import platform
import random
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from contextpilot.dedup.messages import DEFAULT_MIN_CHARS, deduplicate_messages

TEMPLATE_CHARS = 45_000
CHANGES = {
    "10%": (0.10,) * 4,
    "20%": (0.20,) * 4,
    "35%": (0.35,) * 4,
    "10-35%": (0.10, 0.18, 0.27, 0.35),
}
QUOTED = re.compile(r'lines?\b[^"\]]*"([^"]+)"')
THRESHOLDS = (24, 32, 40, 48, 64, 96, 128, 256)

VOCABULARY = (
    "supplier customer agreement delivery payment invoice service notice liability term "
    "confidential party parties written prior date thirty days business reasonable shall may "
    "must not under this clause schedule applicable law jurisdiction termination breach "
    "remedy warranty goods intellectual property licence data protection personal processing "
    "subprocessor audit record fee tax interest due amount currency index adjustment "
    "milestone acceptance test defect repair replace insurance indemnify claim third force "
    "majeure event assignment consent waiver severability entire amendment counterpart "
    "signature project phase deliverable stakeholder workshop design migration support level "
    "response availability hours region team lead budget estimate risk mitigation "
)
WORDS = VOCABULARY.split()


def sentence(rng: random.Random, chars: int) -> str:
    words: list[str] = []
    while sum(map(len, words)) + len(words) < chars:
        words.append(rng.choice(WORDS))
    return " ".join(words).capitalize() + "."


def contract(rng: random.Random) -> list[str]:
    """Numbered clauses, one paragraph of 60 to 300 characters a line, blank lines between."""
    lines: list[str] = []
    for clause in range(1, 1000):
        lines += [f"{clause}. {sentence(rng, 20).upper()}", ""]
        for paragraph in range(1, rng.randint(2, 6)):
            lines += [f"{clause}.{paragraph} {sentence(rng, rng.randint(60, 300))}", ""]
        if sum(map(len, lines)) + len(lines) >= TEMPLATE_CHARS:
            return lines
    raise AssertionError("the template never filled up")


def proposal(rng: random.Random) -> list[str]:
    """Markdown: headings, paragraphs, bullets and tables; 30 to 200 characters a line."""
    lines: list[str] = []
    while sum(map(len, lines)) + len(lines) < TEMPLATE_CHARS:
        lines += [f"## {sentence(rng, 25)}", "", sentence(rng, rng.randint(100, 200)), ""]
        lines += [f"- {sentence(rng, rng.randint(30, 120))}" for _ in range(rng.randint(3, 7))]
        lines += ["", "| item | days | price |", "|---|---|---|"]
        lines += [
            f"| {sentence(rng, 30)} | {rng.randint(1, 90)} | {rng.randint(1, 900)}00 EUR |"
            for _ in range(rng.randint(2, 6))
        ]
        lines.append("")
    return lines


def wrapped(rng: random.Random) -> list[str]:
    """Plain text wrapped at about 80 columns, no blank lines: the shortest runs per reference."""
    return [sentence(rng, rng.randint(60, 80)) for _ in range(TEMPLATE_CHARS // 74)]


def source_code(rng: random.Random) -> list[str]:
    """Code-like lines of 4 to 70 characters, many of them frequent (`return`, `}`, blank)."""
    lines: list[str] = []
    while sum(map(len, lines)) + len(lines) < TEMPLATE_CHARS:
        lines.append(f"func {rng.choice(WORDS)}{rng.randint(0, 999)}({rng.choice(WORDS)} int) {{")
        for _ in range(rng.randint(2, 12)):
            call = f"{rng.choice(WORDS)}({rng.choice(WORDS)}, {rng.choice(WORDS)})"
            lines.append(f"    {rng.choice(WORDS)} := {rng.choice(WORDS)}.{call}")
        lines += ["    return nil", "}", ""]
    return lines


TEMPLATES = {
    "contract": contract,
    "proposal": proposal,
    "wrapped 80": wrapped,
    "source code": source_code,
}


def variant(lines: list[str], share: float, rng: random.Random) -> list[str]:
    return [
        f"{line[: len(line) // 2]}{rng.randint(0, 10**9)}{line[len(line) // 2 :]}"
        if line and rng.random() < share
        else line
        for line in lines
    ]


def documents(
    make: Callable[..., list[str]], changes: str, seed: int, template_first: bool
) -> list[str]:
    """Four documents; with `template_first` the first share of the four is 0 instead."""
    rng = random.Random(seed)
    template = make(rng)
    shares = [0.0, *CHANGES[changes][1:]] if template_first else CHANGES[changes]
    return ["\n".join(variant(template, share, rng)) for share in shares]


def tool_messages(texts: list[str]) -> list[dict[str, Any]]:
    return [
        {"role": "tool", "tool_call_id": f"call_{index}", "content": text}
        for index, text in enumerate(texts)
    ]


def possible(texts: list[str]) -> int:
    seen: set[str] = set()
    repeated = 0
    for text in texts:
        for line in text.split("\n"):
            repeated += len(line) + 1 if line in seen else 0
            seen.add(line)
    return repeated


def measure(texts: list[str], min_chars: int) -> tuple[int, int, int, int]:
    """Characters in all and saved, references and their characters; checks the way back."""
    messages = tool_messages(texts)
    _, report = deduplicate_messages(messages, min_chars=min_chars)
    assert report.expand() == messages
    written = sum(len(item.reference) for item in report.replacements)
    return report.chars_before, report.chars_saved, len(report.replacements), written


def print_savings(seed: int) -> None:
    print(f"\nCharacters saved, min_chars={DEFAULT_MIN_CHARS}; the first of four documents is the "
          "template itself, or a variant too")  # fmt: skip
    print(f"{'template':12} {'first':9} {'changed':>7} {'possible':>9} {'saved':>7} "
          f"{'of possible':>11} {'references':>10} {'chars each':>10}")  # fmt: skip
    for name, make in TEMPLATES.items():
        for first in (True, False):
            for changes in CHANGES:
                texts = documents(make, changes, seed, first)
                total, saved, references, written = measure(texts, DEFAULT_MIN_CHARS)
                bound = possible(texts)
                print(f"{name:12} {'template' if first else 'variant':9} {changes:>7} "
                      f"{bound / total:9.1%} {saved / total:7.1%} {saved / bound:11.1%} "
                      f"{references:10} {written / references:10.1f}")  # fmt: skip


def print_thresholds(seed: int) -> None:
    print("\nSaved of possible by min_chars (mean over both settings and all changes)")
    print(f"{'template':12} " + " ".join(f"{threshold:>7}" for threshold in THRESHOLDS))
    for name, make in TEMPLATES.items():
        cases = [
            documents(make, changes, seed, first) for first in (True, False) for changes in CHANGES
        ]
        row = []
        for threshold in THRESHOLDS:
            ratios = [measure(case, threshold)[1] / possible(case) for case in cases]
            row.append(f"{sum(ratios) / len(ratios):7.1%}")
        print(f"{name:12} " + " ".join(row))


def clustered(lines: list[str], edits: int, rng: random.Random) -> list[str]:
    """The lines with some places changed, a few lines each, as people edit."""
    changed = list(lines)
    for _ in range(edits):
        at = rng.randrange(len(changed))
        changed[at : at + rng.randint(0, 3)] = [sentence(rng, 60) for _ in range(rng.randint(1, 3))]
    return changed


def reads(texts: list[str], name: str) -> list[dict[str, Any]]:
    """A conversation in which a tool returns these texts one after another."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Work through these."}]
    for at, text in enumerate(texts):
        function = {"name": name, "arguments": "{}"}
        call = {"id": f"call_{at}", "type": "function", "function": function}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"call_{at}", "content": text})
    return messages


def conversations(seed: int) -> dict[str, list[dict[str, Any]]]:
    rng = random.Random(seed)
    made: dict[str, list[dict[str, Any]]] = {}
    for name, make in (("contracts", contract), ("proposals", proposal)):
        lines = make(rng)
        versions = [lines, *(clustered(lines, 20, rng) for _ in range(3))]
        made[f"4 {name}, 20 places changed"] = reads(["\n".join(v) for v in versions], "fetch")
    code = source_code(rng)[:400]
    first = clustered(code, 3, rng)
    versions = [code, first, clustered(first, 3, rng)]
    texts = ["\n".join(version) for version in versions]
    made["code read three times, 3 edits each"] = reads(texts, "read_file")
    made["the same with line numbers"] = reads([numbered(text) for text in texts], "read_file")
    made["code read again as it was"] = reads([texts[0], texts[0]], "read_file")
    return made


def bad_references(before: list[Any], changed: list[Any]) -> int:
    """References whose quotation does not begin exactly one line before them, in full."""
    lines: list[str] = []
    bad = 0
    for old, new in zip(before, changed, strict=True):
        sent = set((old["content"] or "").split("\n"))
        for line in (new["content"] or "").split("\n"):
            for quoted in QUOTED.findall(line) if line not in sent else ():
                bad += sum(other.lstrip().startswith(quoted) for other in lines) != 1
            lines.append(line)
    return bad


def print_conversations(seed: int) -> None:
    print(f"\n{'conversation':36} {'saved':>6} {'references':>10} {'not one line':>12} "
          f"{'first readings changed':>22}")  # fmt: skip
    for name, messages in conversations(seed).items():
        changed, report = deduplicate_messages(messages)
        assert report.expand() == messages
        first = next(at for at, m in enumerate(messages) if m["role"] == "tool")
        altered = changed[first] is not messages[first]
        saved = report.chars_saved / report.chars_before
        print(f"{name:36} {saved:6.1%} {len(report.replacements):10} "
              f"{bad_references(messages, changed):12} {altered:22}")  # fmt: skip


def near_identical(
    make: Callable[..., list[str]], changes: str, seed: int, chars: int
) -> list[str]:
    """Sets of four documents, each set of a template of its own."""
    sets = max(1, round(chars / (4 * TEMPLATE_CHARS)))
    return [text for at in range(sets) for text in documents(make, changes, seed + at, True)]


def numbered(text: str) -> str:
    return "\n".join(f"{at:6}\t{line}" for at, line in enumerate(text.split("\n"), 1))


def inputs(chars: int, seed: int) -> dict[str, list[str]]:
    """Prompts of about `chars` characters, easy and hostile."""
    rng = random.Random(seed)
    contracts = near_identical(contract, "10%", seed, chars)
    return {
        "contracts, 10 %": contracts,
        "contracts, 10-35 %": near_identical(contract, "10-35%", seed, chars),
        "proposals, 10-35 %": near_identical(proposal, "10-35%", seed, chars),
        "80 columns, 35 %": near_identical(wrapped, "35%", seed, chars),
        "numbered listings, 10 %": [numbered(text) for text in contracts],
        "JSON, 10 %": [json.dumps({"path": "a", "text": text}) for text in contracts],
        **{name: [text, f"{text}\nend"] for name, text in hostile(chars // 2, rng).items()},
    }


def hostile(chars: int, rng: random.Random) -> dict[str, str]:
    """Texts that are read twice with another end."""
    return {
        "all different": "\n".join(f"{at} {at * 7919} of all" for at in range(chars // 24)),
        "all lines equal": "the same line again\n" * (chars // 20),
        "period of 7 lines": "a\nbb\nccc\n\ne e e e e\n}\n)\n" * (chars // 23),
        "blank lines": "\n" * chars,
        "short lines, 50 kinds": "\n".join(f"ok {rng.randrange(50)}" for _ in range(chars // 5)),
    }


def seconds(texts: list[str], repeats: int) -> float:
    messages = tool_messages(texts)
    best = float("inf")
    for _ in range(repeats):
        gc.collect()
        start = time.process_time()
        deduplicate_messages(messages)
        best = min(best, time.process_time() - start)
    return best


def print_speed(seed: int, largest: int, repeats: int) -> None:
    sizes = [size for size in (100_000, 1_000_000, 4_000_000, 16_000_000, 64_000_000)
             if size <= largest]  # fmt: skip
    print(f"\nMB/s (10^6 characters per CPU second, best of {repeats}) by size of the prompt, and "
          "the exponent of time over size")  # fmt: skip
    print(f"{'input':26} " + " ".join(f"{size / 1e6:>7} MB" for size in sizes) + "  exponent")
    for name in inputs(sizes[0], seed):
        measured, taken = [], []
        for size in sizes:
            texts = inputs(size, seed)[name]
            measured.append(sum(map(len, texts)))
            taken.append(seconds(texts, repeats))
        rates = [chars / each / 1e6 for chars, each in zip(measured, taken, strict=True)]
        slope = np.polyfit(np.log(measured), np.log(taken), 1)[0]
        print(f"{name:26} " + " ".join(f"{rate:10.1f}" for rate in rates) + f"  {slope:8.2f}")


def print_machine() -> None:
    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            models = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
        cpu = models[0] if models else cpu
    print(f"{datetime.date.today()}  {cpu}, {os.cpu_count()} cores, {platform.system()}  "
          f"Python {sys.version.split()[0]}, NumPy {np.__version__}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--largest-mb", type=float, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--skip-speed", action="store_true")
    options = parser.parse_args()
    print_machine()
    print_savings(options.seed)
    print_conversations(options.seed)
    print_thresholds(options.seed)
    if not options.skip_speed:
        print_speed(options.seed, int(options.largest_mb * 1e6), options.repeats)


if __name__ == "__main__":
    import plainly

    plainly.run(main)

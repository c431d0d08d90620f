"""Hit ratios through each form in which documents can stand in a prompt, for a workload file.

    python scripts/bench_forms.py WORKLOAD.json.gz [--requests 300]

Every request of the workload is written in each form, its blocks are found and planned as the proxy
does, and the prompt is compared with all before it, in an unlimited prefix cache with pages of 64
characters. "plain" is the order as retrieved; "found" the share of requests whose list was found.
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import hashlib
import json
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import contextpilot
from contextpilot.prompt.annotate import RANKING_TEMPLATE
from contextpilot.prompt.extract import Group, extract_blocks

PAGE_CHARS = 64


def called(content: str) -> list[dict[str, Any]]:
    """Return a search tool's call and its result."""
    function = {"name": "search", "arguments": '{"query": "x"}'}
    call = {"id": "c", "type": "function", "function": function}
    return [
        {"role": "user", "content": "Look it up."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": content},
    ]


def listed(form: str, join: str = "\n") -> Callable[[Sequence[str], str], list[dict[str, Any]]]:
    """Return what writes documents in a form of `{n}` and `{text}`, and the question after them."""

    def write(texts: Sequence[str], question: str) -> list[dict[str, Any]]:
        items = join.join(form.replace("{n}", str(n)).replace("{text}", t)
                          for n, t in enumerate(texts, 1))  # fmt: skip
        text = f"Use these documents.\n\n<documents>\n{items}\n</documents>\n\nQuestion: {question}"
        return [{"role": "user", "content": text}]

    return write


def rows(texts: Sequence[str], _: str) -> list[dict[str, Any]]:
    """Return the rows of a search, named by what they hold."""
    named = [{"id": hashlib.sha256(t.encode()).hexdigest()[:12], "text": t} for t in texts]
    return called(json.dumps({"results": named}))


FORMS: dict[str, Callable[[Sequence[str], str], list[dict[str, Any]]]] = {
    "<document index>": listed('<document index="{n}">\n{text}\n</document>'),
    "<doc>": listed("<doc>{text}</doc>"),
    "[n]": listed("[{n}] {text}", "\n\n"),
    "Document n:": listed("Document {n}: {text}", "\n\n"),
    "JSON rows of a search": rows,
    "rules in a search result": lambda texts, _: called("\n---\n".join(texts)),
}


class Pages:
    """Prefixes that were sent before."""

    def __init__(self) -> None:
        self._known: set[bytes] = set()

    def hit(self, text: str) -> int:
        """Return how many characters of a prompt are known, and learn it."""
        digest, hits, is_live = hashlib.sha256(), 0, True
        for start in range(0, len(text) - PAGE_CHARS + 1, PAGE_CHARS):
            digest.update(text[start : start + PAGE_CHARS].encode("utf-8", "surrogatepass"))
            key = digest.digest()
            is_live = is_live and key in self._known
            hits += PAGE_CHARS if is_live else 0
            self._known.add(key)
        return hits


def measured(requests: Sequence[tuple[str, list[str]]], write: Any, planned: bool) -> list[float]:
    """Return the hit ratio and the share of requests whose list was found."""
    pilot, pages = contextpilot.ContextPilot(), Pages()
    hits = total = found_in = 0
    for question, texts in requests:
        messages = write(texts, question)
        found = extract_blocks(messages) if planned else None
        if found is not None:
            found_in += 1
            ((_, order),) = [(r, r.order) for r in pilot.reorder([found.texts])[0]]
            group = found.last
            note = group.legend(order) if isinstance(group, Group) else ""
            if isinstance(group, Group) and not note:
                note = group.ranking(order, RANKING_TEMPLATE)
            messages = found.rebuild(order, note=note)
        text = "\n".join(str(message.get("content")) for message in messages)
        hits += pages.hit(text)
        total += len(text)
    return [hits / total, found_in / len(requests)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", type=Path)
    parser.add_argument("--requests", type=int, default=300)
    args = parser.parse_args()
    content = json.loads(gzip.decompress(args.workload.read_bytes()))
    docs = content["docs"]
    requests = [
        (one["query"], list(dict.fromkeys(docs[at] for at in one["contexts"])))
        for one in content["requests"][: args.requests]
    ]
    print(
        f"contextpilot {contextpilot.__version__}, Python {platform.python_version()}, "
        f"{platform.machine()}, {datetime.date.today()}; {args.workload.name}, "
        f"{len(requests)} requests"
    )
    print(f"{'form':28}{'plain':>8}{'planned':>9}{'found':>8}")
    for name, write in FORMS.items():
        plain, _ = measured(requests, write, planned=False)
        ratio, found = measured(requests, write, planned=True)
        print(f"{name:28}{plain:8.1%}{ratio:9.1%}{found:8.0%}", flush=True)
    return 0


if __name__ == "__main__":
    import plainly

    plainly.run(main)

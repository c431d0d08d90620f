"""Write questions on Python's standard library, with the passages that a search finds for each.

    python scripts/docs_questions.py questions.jsonl [--passages 6] [--words 60] [--count 500]

Each line is a request for `contextpilot bench --answers`: a question that names what a function
does, its name as the gold answer, and passages of its documentation (BM25, the most relevant
first), the one that answers it among them. A program can check the answers. The texts are the
documentation strings of the running Python, under the PSF licence, so they may be passed on; they
differ a little between versions.
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import random
import re
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from contextpilot.bench.answers import normalized

_MODULES = """
abc ast asyncio base64 bdb binascii bisect builtins bz2 calendar cgitb cmath cmd code codecs
collections colorsys compileall concurrent.futures configparser contextlib copy csv dataclasses
datetime decimal difflib dis doctest email.header email.message email.utils enum filecmp fileinput
fnmatch fractions ftplib functools gc getpass gettext glob gzip hashlib heapq hmac html
html.parser http.client http.cookies imaplib importlib.util inspect io ipaddress itertools json
keyword linecache locale logging lzma mailbox math mimetypes multiprocessing netrc operator
optparse os os.path pathlib pickle pickletools pkgutil platform plistlib poplib pprint profile
pstats py_compile pyclbr queue quopri random re reprlib rlcompleter runpy sched secrets selectors
shelve shlex shutil signal smtplib socket socketserver sqlite3 ssl stat statistics string struct
subprocess symtable sys tabnanny tarfile tempfile textwrap threading time timeit token tokenize
trace traceback tracemalloc types typing unicodedata unittest urllib.parse urllib.request uuid
warnings wave weakref webbrowser wsgiref.util xml.dom.minidom xml.etree.ElementTree
xml.sax.saxutils zipfile zlib
"""
_WORD = re.compile(r"[a-z0-9_]+")
_K1, _B = 1.5, 0.75


class Entry(NamedTuple):
    """One documented function: its module, its name, what it does, and the passage that says so."""

    module: str
    name: str
    summary: str
    passage: str


def entries(words: int) -> Iterator[Entry]:
    """Yield the documented functions of the modules that this Python has."""
    seen = set()
    for name in re.findall(r"[\w.]+", _MODULES):
        try:
            module = import_module(name)
        except ImportError:
            continue
        for title, member in sorted(vars(module).items()):
            if title.startswith("_") or not callable(member) or inspect.isclass(member):
                continue
            text = inspect.getdoc(member)
            home = getattr(member, "__module__", name) or name
            if not text or id(member) in seen or home.partition(".")[0].strip("_") not in name:
                continue
            seen.add(id(member))
            lines = [line for line in text.split("\n\n") if "->" not in line] or [text]
            summary = " ".join(lines[0].split())
            body = " ".join(" ".join(lines).split()[:words])
            if 5 <= len(summary.split()) <= 30:
                yield Entry(name, title, summary, f"{name}.{title}\n{body}")


def question(entry: Entry) -> str | None:
    """Return the question that an entry answers; None where it would give the answer away."""
    # The description first: a small model that repeats the question would not get to the name.
    text = f'"{entry.summary}" What is the name of this function of the module {entry.module}?'
    return None if normalized(entry.name) in normalized(text) else text


class Search:
    """BM25 over passages."""

    def __init__(self, passages: list[str]) -> None:
        self._counts = [Counter(_WORD.findall(passage.lower())) for passage in passages]
        self._lengths = [sum(counts.values()) for counts in self._counts]
        self._mean = sum(self._lengths) / len(passages)
        holding = Counter(word for counts in self._counts for word in counts)
        total = len(passages)
        self._idf = {
            word: math.log(1 + (total - count + 0.5) / (count + 0.5))
            for word, count in holding.items()
        }

    def best(self, query: str, count: int) -> list[int]:
        """Return the most similar passages, the best one first."""
        words = [word for word in _WORD.findall(query.lower()) if word in self._idf]
        scores = []
        for number, counts in enumerate(self._counts):
            long = _K1 * (1 - _B + _B * self._lengths[number] / self._mean)
            score = sum(
                self._idf[word] * counts[word] * (_K1 + 1) / (counts[word] + long)
                for word in words
                if word in counts
            )
            scores.append((-score, number))
        return [number for _, number in sorted(scores)[:count]]


def main() -> None:
    """Write the questions."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--passages", type=int, default=6)
    parser.add_argument("--words", type=int, default=60, help="of a passage at most")
    parser.add_argument("--count", type=int, default=500)
    arguments = parser.parse_args()
    known = list(entries(arguments.words))
    search = Search([entry.passage for entry in known])
    asked = [(i, text) for i, entry in enumerate(known) if (text := question(entry))]
    random.Random(1).shuffle(asked)
    lines = []
    for number, text in asked:
        if len(lines) == arguments.count:
            break
        found = search.best(text, arguments.passages)
        if number in found:
            contexts = [known[i].passage for i in found]
            lines.append({"query": text, "answers": [known[number].name], "contexts": contexts})
    arguments.out.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    print(f"{len(lines)} questions over {len(known)} passages: {arguments.out}")


if __name__ == "__main__":
    import plainly

    plainly.run(main)

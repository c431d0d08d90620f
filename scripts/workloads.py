"""Builds the workloads of the benchmarks from public data sets that you fetch yourself.

    python scripts/workloads.py WORKLOADS --locomo locomo10.json --nq nq-open-oracle.jsonl.gz

Nothing of these data is part of the project, and their licences are their own:

    --locomo  data/locomo10.json of github.com/snap-research/locomo (CC BY-NC 4.0)
    --nq      qa_data/nq-open-oracle.jsonl.gz of github.com/nelson-liu/lost-in-the-middle
              (texts of Wikipedia, CC BY-SA 3.0)
    --mtrag   conversations.json of MTRAG-UN, github.com/IBM/mt-rag-benchmark (Apache-2.0)

Each becomes NAME.json.gz files of documents and requests, as `contextpilot simulate` reads them.
Documents are ranked by the BM25 of this project. The figures in README and docs were measured with
ranks by another BM25 over the same documents and questions: a batch of `nq` hits 0.3 points more
there, one of `locomo0-top100` 3.9 points more (simulated, no bound, at full gain).
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from contextpilot.commands.bm25 import Bm25Index
from contextpilot.errors import CommandError

LOCOMO = {"conv-30": 0, "conv-41": 1, "conv-42": 2, "conv-43": 3}
"""Which conversations the workloads are of, by their id in the data set."""
LOCOMO_TOP = (20, 100)
NQ_REQUESTS, NQ_PASSAGES, NQ_TOP = 1300, 2600, 20
MTRAG_TOP = 15


class Source(NamedTuple):
    """What one workload is made of: its documents, its questions, how many each retrieves."""

    name: str
    docs: list[str]
    questions: list[str]
    top_k: int


def locomo(path: Path) -> Iterator[Source]:
    """Read dialogues: each turn is a document, with its time and speaker."""
    for sample in read_json(path):
        number = LOCOMO.get(str(sample.get("sample_id")))
        if number is None:
            continue
        questions = [str(one["question"]) for one in sample["qa"]]
        for top_k in LOCOMO_TOP:
            docs = list(turns(sample["conversation"]))
            yield Source(f"locomo{number}-top{top_k}", docs, questions, top_k)


def turns(conversation: dict[str, Any]) -> Iterator[str]:
    """Yield the turns of a dialogue, session by session."""
    session = 1
    while (said := conversation.get(f"session_{session}")) is not None:
        time = conversation.get(f"session_{session}_date_time", "")
        for turn in said:
            yield f"[{time}] {turn['speaker']}: {turn['text']}"
        session += 1


def natural_questions(path: Path) -> Iterator[Source]:
    """Read questions with the passage that answers each; all passages are documents."""
    lines = [json.loads(line) for line in read_text(path).splitlines() if line.strip()]
    passages = [passage(one["ctxs"][0]) for one in lines[:NQ_PASSAGES]]
    questions = [str(one["question"]) for one in lines[:NQ_REQUESTS]]
    yield Source("nq", list(dict.fromkeys(passages)), questions, NQ_TOP)


def mtrag(path: Path) -> Iterator[Source]:
    """Read conversations: every user's turn is a question, every passage shown a document."""
    docs: dict[str, None] = {}
    questions = []
    for conversation in read_json(path):
        for message in conversation["messages"]:
            if message["speaker"] == "user":
                questions.append(str(message["text"]))
            docs.update(dict.fromkeys(passage(one) for one in message.get("contexts", ())))
    yield Source("mtrag", list(docs), questions, MTRAG_TOP)


def passage(found: dict[str, Any]) -> str:
    """Return a passage with its title."""
    return f"{found.get('title', '')}\n{found['text']}"


SOURCES = {"locomo": locomo, "nq": natural_questions, "mtrag": mtrag}


def words(text: str) -> list[str]:
    """Return the words of a text of three letters and more."""
    return [word for word in re.findall(r"\w+", text.lower()) if len(word) > 2]


def requests_of(source: Source) -> list[dict[str, Any]]:
    """Return each question with its best documents; what matches nothing fills up in order."""
    index, everything = Bm25Index(source.docs, words), range(len(source.docs))
    asked = []
    for question in source.questions:
        best = index.search(question, source.top_k)
        found = [*best, *(n for n in everything if n not in set(best))][: source.top_k]
        asked.append({"query": question, "contexts": found})
    return asked


def write(source: Source, folder: Path) -> str:
    """Write one workload; return a line that tells what it holds."""
    requests = requests_of(source)
    content = {"name": source.name, "docs": source.docs, "requests": requests}
    path = folder / f"{source.name}.json.gz"
    with gzip.GzipFile(path, "wb", mtime=0) as file:
        file.write(json.dumps(content).encode())
    return f"{path}: {len(requests):,} requests, {len(source.docs):,} documents"


def read_text(path: Path) -> str:
    """Read a file, gzipped or not."""
    data = path.read_bytes()
    return (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).decode()


def read_json(path: Path) -> list[dict[str, Any]]:
    """Read a list of objects."""
    found = json.loads(read_text(path))
    if not isinstance(found, list):
        raise CommandError(f"{path} is no list of samples: is it the file that the help names?")
    return found


def workload_files(folder: Path, names: Sequence[str] = ()) -> list[Path]:
    """Return the workloads in a folder, by name, those of `names` alone if there are any.

    Raises CommandError that says how they are built, where there is none.
    """
    found = sorted(folder.glob("*.json.gz"))
    kept = [path for path in found if not names or path.name.partition(".")[0] in names]
    if not kept:
        named = f" called {', '.join(names)}" if names else ""
        raise CommandError(
            f"{folder} holds no workload NAME.json.gz{named}: python scripts/workloads.py --help "
            "tells how they are built"
        )
    return kept


def main() -> int:
    """Build what there are sources for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the workloads go")
    parser.add_argument("--locomo", type=Path, metavar="FILE")
    parser.add_argument("--nq", type=Path, metavar="FILE")
    parser.add_argument("--mtrag", type=Path, metavar="FILE")
    args = parser.parse_args()
    given = {name: getattr(args, name) for name in SOURCES if getattr(args, name)}
    if not given:
        parser.error("give at least one of " + ", ".join(f"--{name} FILE" for name in SOURCES))
    args.folder.mkdir(parents=True, exist_ok=True)
    for name, path in given.items():
        try:
            for source in SOURCES[name](path):
                print(write(source, args.folder), flush=True)
        except (KeyError, TypeError, IndexError) as error:
            raise CommandError(
                f"--{name} {path} is not of the form that is expected ({error!r}): is it the file "
                "that the help names?"
            ) from None
    return 0


if __name__ == "__main__":
    import plainly

    plainly.run(main)

"""The workloads of the benchmarks, built from made-up files of the published forms."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from contextpilot.commands.workload import read_workload

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "workloads.py"
FRUITS = ("apple", "plum", "pear", "fig", "quince")


def locomo(path: Path) -> None:
    sessions = {
        "speaker_a": "Ann",
        "session_1_date_time": "1:00 pm on 1 May, 2023",
        "session_1": [{"speaker": "Ann", "text": f"I eat a {fruit}."} for fruit in FRUITS],
        "session_2_date_time": "2:00 pm on 2 May, 2023",
        "session_2": [{"speaker": "Ben", "text": f"Turn {n}."} for n in range(30)],
    }
    qa = [{"question": f"Who eats a {fruit}?", "answer": "Ann"} for fruit in FRUITS]
    samples = [
        {"sample_id": "conv-26", "conversation": {}, "qa": []},
        {"sample_id": "conv-30", "conversation": sessions, "qa": qa},
    ]
    path.write_text(json.dumps(samples))


def questions(path: Path) -> None:
    found = [{"title": fruit.title(), "text": f"The {fruit} is a fruit."} for fruit in FRUITS]
    lines = [{"question": f"what is a {one['title']}", "ctxs": [one]} for one in found]
    with gzip.open(path, "wt") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))


def conversations(path: Path) -> None:
    found = [{"title": "", "text": f"About the {fruit}."} for fruit in FRUITS]
    path.write_text(json.dumps([{"messages": [
        {"speaker": "user", "text": "And the fig?"},
        {"speaker": "agent", "text": "Sweet.", "contexts": found},
        {"speaker": "user", "text": "And the plum?"},
    ]}]))  # fmt: skip


def build(folder: Path, *arguments: Any) -> list[str]:
    done = subprocess.run(
        [sys.executable, SCRIPT, folder, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
def test_workloads_are_built_from_the_published_forms(tmp_path: Path) -> None:
    locomo(tmp_path / "locomo10.json")
    questions(tmp_path / "nq.jsonl.gz")
    conversations(tmp_path / "conversations.json")
    out = tmp_path / "workloads"
    sources = ["--locomo", tmp_path / "locomo10.json", "--nq", tmp_path / "nq.jsonl.gz"]
    sources += ["--mtrag", tmp_path / "conversations.json"]
    names = build(out, *sources)
    assert names == ["locomo0-top100.json.gz", "locomo0-top20.json.gz", "mtrag.json.gz",
                     "nq.json.gz"]  # fmt: skip
    found = read_workload(str(out / "locomo0-top20.json.gz"))
    assert found.queries[0] == "Who eats a apple?"
    assert found.contexts[0][0].text == "[1:00 pm on 1 May, 2023] Ann: I eat a apple."
    assert all(len({block.key for block in context}) == 20 for context in found.contexts)
    nq = read_workload(str(out / "nq.json.gz"))
    assert [context[0].text for context in nq.contexts] == [
        f"{fruit.title()}\nThe {fruit} is a fruit." for fruit in FRUITS
    ]
    turns = read_workload(str(out / "mtrag.json.gz"))
    assert turns.queries == ["And the fig?", "And the plum?"]
    assert [context[0].text for context in turns.contexts] == [
        "\nAbout the fig.",
        "\nAbout the plum.",
    ]
    before = (out / "nq.json.gz").read_bytes()
    build(out, *sources)
    assert (out / "nq.json.gz").read_bytes() == before

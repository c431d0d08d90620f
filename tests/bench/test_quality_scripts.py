"""The questions that may be published, and the script that asks them at several costs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parents[2] / "scripts"


def script(name: str, *arguments: object) -> str:
    command = [sys.executable, str(SCRIPTS / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("questions") / "questions.jsonl"
    script("docs_questions.py", path, "--count", 400)
    return path


def test_each_question_is_answered_by_one_of_its_passages_only(questions: Path) -> None:
    rows = [json.loads(line) for line in questions.read_text("utf-8").splitlines()]
    assert len(rows) == 400
    assert len({row["query"] for row in rows}) > 380
    for row in rows:
        (answer,) = row["answers"]
        titles = [passage.partition("\n")[0] for passage in row["contexts"]]
        assert len(titles) == len({*row["contexts"]}) == 6
        assert [title for title in titles if title.endswith(f".{answer}")]
        assert answer not in row["query"].split()


class FirstTitle(BaseHTTPRequestHandler):
    """A model that answers with the title of the first passage."""

    seen: ClassVar[list[str]] = []
    roles: ClassVar[list[list[str]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = str(body["messages"][-1]["content"])
        self.seen.append(text)
        self.roles.append([message["role"] for message in body["messages"]])
        title = text.removeprefix("[1] ").partition("\n")[0]
        reply = json.dumps({"choices": [{"message": {"content": title}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def model() -> Iterator[str]:
    """A model's URL."""
    FirstTitle.seen.clear()
    FirstTitle.roles.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), FirstTitle) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_costs_are_compared_and_a_run_that_was_cut_off_goes_on(
    questions: Path, tmp_path: Path, model: str
) -> None:
    journal = tmp_path / "answers.jsonl"
    given = ["--questions", questions, "--journal", journal, "--ways", "plain", "50", "0+end"]
    script("bench_answers.py", "--engine", model, *given, "--count", 20)
    asked = len(FirstTitle.seen)
    assert 40 <= asked <= 60
    shown = script("bench_answers.py", "--engine", model, *given, "--count", 30)
    assert asked < len(FirstTitle.seen) <= 90
    assert len(FirstTitle.seen) == len(set(FirstTitle.seen))
    assert len(journal.read_text("utf-8").splitlines()) == len(FirstTitle.seen)
    assert "30 questions answered, 0 more" in shown
    plain, end = (line for line in shown.splitlines() if line.startswith(("plain", "0+end")))
    assert "to plain +0.0 [+0.0, +0.0]" in plain
    lost = re.search(r"lost (\d+)", end)
    assert lost is not None
    assert 25 <= int(lost[1]) <= 30
    assert "p 0.00" in end


def test_several_are_asked_at_once_and_a_note_stands_before_the_question(
    questions: Path, tmp_path: Path, model: str
) -> None:
    given = ["--questions", questions, "--journal", tmp_path / "answers.jsonl", "--count", 10]
    ways = ["--ways", "0+end", "0+end+note", "--at-once", 4]
    shown = script("bench_answers.py", "--engine", model, *given, *ways)
    assert "10 questions answered, 0 more" in shown
    noted = [text for text in FirstTitle.seen if "By number, from most" in text]
    assert len(noted) == 10
    for text in noted:
        note, question = text.split("\n\n")[-2:]
        assert note.startswith("By number")
        assert question.startswith("Question: ")
        assert text.replace(f"{note}\n\n", "") in FirstTitle.seen


def test_the_form_of_the_prompt_is_given(questions: Path, tmp_path: Path, model: str) -> None:
    given = ["--questions", questions, "--journal", tmp_path / "answers.jsonl", "--count", 5]
    before = script("bench_answers.py", *given, "--ways", "plain", "reversed")
    assert "0 questions answered, 0 more" in before
    script("bench_answers.py", "--engine", model, *given, "--ways", "plain")
    script(
        *("bench_answers.py", "--engine", model, *given, "--ways", "plain"),
        *("--system", "", "--asked", "Briefly: {query}"),
    )
    assert FirstTitle.roles == [["system", "user"]] * 5 + [["user"]] * 5
    assert all("\n\nQuestion: " in text for text in FirstTitle.seen[:5])
    assert all("\n\nBriefly: " in text for text in FirstTitle.seen[5:])

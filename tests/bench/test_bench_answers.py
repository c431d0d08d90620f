"""Scores of answers with known values, and the command that makes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prefix_engine import PrefixEngine, running
from runner import Runner

from contextpilot.bench.answers import exact_match, gold_found, token_f1
from contextpilot.bench.paired import McNemar


def test_exact_match_ignores_case_articles_and_punctuation() -> None:
    assert exact_match("The  Eiffel tower!", ["a big ben", "Eiffel Tower"]) == 1
    assert exact_match("Eiffel Tower in Paris", ["Eiffel Tower"]) == 0
    assert exact_match("", ["the"]) == 1
    assert exact_match("anything", []) == 0


@pytest.mark.parametrize(
    ("answer", "golds", "f1"),
    [
        ("Eiffel Tower in Paris", ["Eiffel Tower"], 2 * 2 / (4 + 2)),
        ("Paris", ["London", "the city of Paris"], 2 * 1 / (1 + 3)),
        ("red red blue", ["red green"], 2 * 1 / (3 + 2)),
        ("nothing alike", ["other words"], 0),
        ("", ["the"], 1),
        ("", ["word"], 0),
    ],
)
def test_token_f1_counts_shared_words(answer: str, golds: list[str], f1: float) -> None:
    assert token_f1(answer, golds) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("answer", "golds", "found"),
    [
        ("It was Steve  Goodman.", ["John Doe", "steve goodman"], 1),
        ("Steve wrote it", ["Steve Goodman"], 0),
        ("in 1971", ["97"], 0),
        ("It is statistics.harmonic_mean().", ["harmonic_mean"], 1),
        ("the harmonic mean", ["harmonic_mean"], 0),
        ("anything", ["", "?"], 0),
        ("", [], 0),
    ],
)
def test_a_gold_answer_is_found_as_whole_words(answer: str, golds: list[str], found: float) -> None:
    assert gold_found(answer, golds) == found


@pytest.mark.parametrize(
    ("changes", "gained", "lost", "p"),
    [
        ([], 0, 0, 1),
        ([0, 0, 1, -1], 1, 1, 1),
        ([1] * 5 + [0] * 9, 5, 0, 2 / 32),
        ([1] + [-1] * 6, 1, 6, 2 * 8 / 128),
    ],
)
def test_mcnemar_counts_changes_only(
    changes: list[float], gained: int, lost: int, p: float
) -> None:
    test = McNemar.of(changes)
    assert (test.gained, test.lost) == (gained, lost)
    assert test.p == pytest.approx(p)


def number_of(messages: list[dict[str, Any]]) -> str:
    """Return the number in the question, the last thing in a prompt; 0 without a question."""
    before, _, number = str(messages[-1]["content"]).rpartition("question ")
    return number.rstrip("?") if before else "0"


def answering(messages: list[dict[str, Any]]) -> str:
    """Answer rightly, but at every fifth question only if the prompt is annotated."""
    number = number_of(messages)
    annotated = "most to least important" in messages[-1]["content"]
    return f"The answer {number}." if int(number) % 5 or annotated else "I do not know"


def scores(report: Any, mode: str) -> dict[str, float]:
    (found,) = [each for each in report["answers"] if each["mode"] == mode]
    return {name: value["value"] for name, value in found["scores"].items()}


def test_answers_are_scored_for_every_way_to_prompt(
    run: Runner, workload: Path, tmp_path: Path
) -> None:
    with running(PrefixEngine(answering=answering)) as engine:
        shown = run("bench", "--engine", engine.url, "--workload", workload, "--answers",
                    "--repetitions", 1, "--out", tmp_path)  # fmt: skip
    assert shown.status == 0, shown.err
    report = json.loads((tmp_path / "bench.json").read_text())
    modes = ["plain", "reordered", "online", "deduplicated"]
    assert [each["mode"] for each in report["modes"]] == modes
    assert {body["max_tokens"] for body in engine.seen} == {64}
    for mode in ("plain", "reordered", "deduplicated"):
        assert scores(report, mode)["exact match"] == 0.8
        assert scores(report, mode)["token F1"] == pytest.approx(0.8)
    annotated = {
        int(number_of(body["messages"]))
        for body in engine.seen
        if "most to least" in body["messages"][-1]["content"]
    }
    right = {i for i in range(20) if i % 5} | annotated
    assert annotated
    assert scores(report, "online")["exact match"] == pytest.approx(len(right) / 20)
    change = report["answers"][2]["change_to_plain"]["exact match"]["value"]
    assert change == pytest.approx(len(right) / 20 - 0.8)
    assert "exact match %" in shown.out
    online = report["answers"][2]
    assert online["mcnemar"]["gold found"]["lost"] == 0
    assert online["mcnemar"]["gold found"]["gained"] == len(right) - 16
    classes = online["change_by_displacement"]
    assert sum(each["requests"] for each in classes.values()) == 20
    assert classes["as given"]["change"]["value"] == 0
    assert "moved far" in shown.out
    assert "change_by_displacement" not in report["answers"][0]["scores"]
    lines = (tmp_path / "answers.jsonl").read_text().splitlines()
    assert len(lines) == 4 * 20
    assert json.loads(lines[1]) == {"mode": "plain", "position": 1, "answer": "The answer 1."}


def judging(messages: list[dict[str, Any]]) -> str:
    text = messages[-1]["content"]
    return "Yes." if "grade: The answer" in text else "no"


def test_a_judge_is_asked_with_question_gold_and_answer(run: Runner, workload: Path) -> None:
    with (
        running(PrefixEngine(answering=answering)) as engine,
        running(PrefixEngine(answering=judging)) as judge,
    ):
        report = run("bench", "--engine", engine.url, "--workload", workload, "--json",
                     "--judge", judge.url, "--modes", "plain,reordered", "--answers",
                     "--repetitions", 1).json()  # fmt: skip
    assert scores(report, "plain")["judge"] == 0.8
    asked = judge.seen[1]["messages"][-1]["content"]
    assert "Question: question 1?" in asked
    assert "Known correct answers: answer 1\n" in asked
    assert "Answer to grade: The answer 1." in asked
    assert len(judge.seen) == 2 * 20


def test_a_judge_that_says_neither_is_an_error(run: Runner, workload: Path) -> None:
    with (
        running(PrefixEngine()) as engine,
        running(PrefixEngine(answering=lambda _: "perhaps")) as judge,
    ):
        told = run.refused("bench", "--engine", engine.url, "--workload", workload,
                           "--judge", judge.url, "--repetitions", 1)  # fmt: skip
    assert "says neither yes nor no: 'perhaps'" in told


def test_answers_without_gold_are_refused(run: Runner, tmp_path: Path) -> None:
    path = tmp_path / "bare.jsonl"
    path.write_text('{"query": "who?", "contexts": ["a"]}\n')
    told = run.refused("bench", "--engine", "http://127.0.0.1:9", "--workload", path, "--answers")
    assert "no request of bare.jsonl has a field answers" in told


def test_malformed_gold_answers_are_refused(run: Runner, tmp_path: Path) -> None:
    path = tmp_path / "wrong.jsonl"
    path.write_text('{"query": "who?", "contexts": ["a"], "answers": [1]}\n')
    told = run.refused("bench", "--engine", "http://127.0.0.1:9", "--workload", path, "--answers")
    assert "line 1: answers must be a list of strings" in told

"""The examples run as a newcomer runs them, and show what they promise."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def output(example: str) -> str:
    run = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / example)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert not run.stderr
    return run.stdout


@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_an_example_says_how_it_is_run(example: str) -> None:
    text = (EXAMPLES / example).read_text(encoding="utf-8")
    assert f"python examples/{example}\n" in text.split('"""')[1]


def test_retrieval_hits_more_than_twice_as_often() -> None:
    given, planned = map(float, re.findall(r"([\d.]+)%", output("retrieval.py")))
    assert planned > 2 * given > 0


def test_the_wrapped_client_hits_more_than_twice_as_often() -> None:
    given, planned = map(float, re.findall(r"([\d.]+)%", output("openai_client.py")))
    assert planned > 2 * given > 0


def test_the_batch_answers_every_question_once() -> None:
    lines = output("batch.py").splitlines()
    assert len(lines) == len({line.split("?")[0] for line in lines}) == 6


def test_the_agent_sends_less_and_extends_each_prompt() -> None:
    lines = output("agent.py").splitlines()
    assert all(line.endswith("True") for line in lines)
    given, sent = map(int, re.findall(r"\d+", lines[-1]))
    assert sent < 0.7 * given

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


def test_the_proxy_hits_more_than_twice_as_often() -> None:
    given, planned = map(float, re.findall(r"cache: ([\d.]+)%", output("through_the_proxy.py")))
    assert planned > 2 * given > 0


def test_one_index_for_two_hits_more_often_than_one_each() -> None:
    told = output("one_index.py")
    given, each, one = map(float, re.findall(r"([\d.]+)%", told))
    assert one > each > 1.8 * given > 0
    (found, total), (left, _) = re.findall(r"finds (\d+) of (\d+)", told)
    assert int(found) == int(total) > 0
    assert left == "0"


def test_an_engine_that_tells_what_it_forgets_is_hit_more_often() -> None:
    given, assumed, known = map(float, re.findall(r"([\d.]+)%", output("hooked_engine.py")))
    assert known > 1.1 * assumed > 2 * given > 0


def test_an_engine_that_does_not_start_is_one_line() -> None:
    run = subprocess.run(
        [sys.executable, str(EXAMPLES / "hooked_engine.py"), "false", "--port", "9"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 1
    assert run.stderr == "false ended with status 1\n"


def test_a_recorded_workload_is_simulated() -> None:
    lines = output("record.py").splitlines()
    rates = [re.findall(r"([\d.]+) %", line) for line in lines if line.startswith((" as", " on"))]
    given, online = float(rates[0][0]), float(rates[1][0])
    assert online > 2 * given > 0


def test_every_example_is_in_the_index() -> None:
    index = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| \[(\w+\.py)\]", index, re.MULTILINE))
    assert listed == {path.name for path in EXAMPLES.glob("*.py")} - {"pretend_engine.py"}


def test_the_batch_answers_every_question_once_and_hits_more_than_twice_as_often() -> None:
    *lines, last = output("batch.py").splitlines()
    assert len(lines) == len({line.split("?")[0] for line in lines}) == 10
    given, planned = map(float, re.findall(r"([\d.]+)%", last))
    assert planned > 2 * given > 0


def test_the_agent_sends_less_and_extends_each_prompt() -> None:
    lines = output("agent.py").splitlines()
    assert all(line.endswith("True") for line in lines)
    given, sent = map(int, re.findall(r"\d+", lines[-1]))
    assert sent < 0.7 * given

"""Guides can be tried as a newcomer would, and their transcripts are those of their commands."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import fresh_start  # noqa: E402

STACKS = {"langchain", "llama-index", "litellm", "lmcache", "mem0", "openai", "pageindex", "ray"}


def test_every_stack_has_a_guide_that_can_be_tried() -> None:
    assert set(fresh_start.guides()) >= STACKS


@pytest.mark.parametrize("guide", sorted(STACKS))
def test_a_guide_installs_from_the_checkout_and_measures(guide: str) -> None:
    make, install, measure = fresh_start.commands_of(guide)
    assert make == "python -m venv .venv && . .venv/bin/activate"
    named = re.fullmatch(r"pip install (?:'\.\[([\w-]+)\]'|\. ([\w-]+))", install)
    assert named
    assert guide in named.groups()
    (example,) = re.findall(r"python (examples/\w+\.py)", measure)
    assert (ROOT / example).is_file()


def test_commands_run_in_one_shell_of_a_newcomer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTEXTPILOT_PORT", "1")
    commands = [
        "cd docs && seen=yes",
        'echo "$seen $(basename "$PWD") $CONTEXTPILOT_PORT"',
        "ls -A ~",
        "python -c 'import sys; print(sys.version_info[:2])'",
        "false",
        "echo never",
    ]
    steps = list(fresh_start.tried(commands, Path(sys.executable)))
    assert [step.status for step in steps] == [0, 0, 0, 0, 1]
    own = str(tuple(sys.version_info[:2]))
    assert [step.output for step in steps] == ["", "yes docs ", "", own, ""]
    assert not (ROOT / ".venv").exists()


def test_an_exit_ends_the_transcript() -> None:
    (step,) = fresh_start.tried(["echo last; exit 3", "echo never"], Path(sys.executable))
    assert (step.output.strip(), step.status) == ("last", 3)


def test_of_an_installation_the_packages_are_told() -> None:
    step = fresh_start.Step("pip install .", "Much\nSuccessfully installed a-1 b-2", 2.4, 0)
    assert step.is_preparation
    assert fresh_start.told(step) == "$ pip install .   # 2 s\n(2 packages)"
    failed = step._replace(output="No such thing", status=1)
    assert fresh_start.told(failed).endswith("\nNo such thing")

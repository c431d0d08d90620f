"""Commands, flags, scripts and variables that README and docs name exist; the cheap ones run."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest
from written import PAGES, ROOT, lines_of_code, spans

from contextpilot.cli import build_parser, main
from contextpilot.commands.workload import read_workload
from contextpilot.server.variables import known_variables

OURS = (
    "bench",
    "distributed",
    "proxy",
    "quality",
    "scheduling",
    "security",
    "server",
    "tuning",
    "warm",
)
"""Pages that speak of our own flags; others name those of many programs."""
FOREIGN = {
    "--cache-ram",
    "--enable-cache-report",
    "--enable-metrics",
    "--enable-prompt-tokens-details",
    "--metrics",
    "--parallel",
    "--remove",
    "--schedule-policy",
    "--slot-save-path",
}
"""What these pages say of engines and of `install_hook`."""

_NAMES = "demo|simulate|bench|doctor|warm|serve|run|plugin|savings"
_INVOKED = re.compile(rf"(?:^|[\s=(/])contextpilot ({_NAMES})\b([^#&|;]*)")
_SCRIPT = re.compile(r"python (scripts/[\w/]+\.py)([^#&|;`]*)")
_VARIABLE = re.compile(r"CONTEXTPILOT_[A-Z_]*[A-Z]")


def parsers() -> dict[str, argparse.ArgumentParser]:
    actions = build_parser()._actions
    (group,) = (one for one in actions if isinstance(one, argparse._SubParsersAction))
    return dict(group.choices)


def invoked() -> list[tuple[str, str]]:
    return sorted({found for line in lines_of_code() for found in _INVOKED.findall(line)})


def flags_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text))


def test_commands_are_shown_at_all() -> None:
    assert {name for name, _ in invoked()} == parsers().keys()


@pytest.mark.parametrize(("name", "rest"), invoked())
def test_a_command_is_understood(name: str, rest: str) -> None:
    build_parser().parse_args([name, *shlex.split(rest)])


@pytest.mark.parametrize("span", sorted({span for span in spans() if "contextpilot " in span}))
def test_a_command_in_the_text_has_its_flags(span: str) -> None:
    for name, rest in _INVOKED.findall(span):
        known = parsers()[name]._option_string_actions
        assert flags_in(rest) <= known.keys(), span


def test_flags_in_the_text_exist() -> None:
    known = FOREIGN | {flag for one in parsers().values() for flag in one._option_string_actions}
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "scripts").rglob("*.py"))
    known |= set(re.findall(r'"(--[\w-]+)"', sources))
    named = {flag for span in spans(*OURS) for flag in flags_in(span)}
    assert len(named) > 20
    assert named - known == set()


def test_scripts_exist_and_know_their_flags() -> None:
    found = [match for line in [*lines_of_code(), *spans()] for match in _SCRIPT.findall(line)]
    assert len(found) > 12
    for script, rest in found:
        path = ROOT / script
        assert path.is_file(), script
        beside = "".join(one.read_text("utf-8") for one in path.parent.glob("*.py"))
        for flag in flags_in(rest):
            assert f'"{flag}"' in beside, f"{script} {flag}"


def test_variables_exist() -> None:
    older = PAGES[ROOT / "docs" / "migrating.md"]
    named = {n for text in PAGES.values() if text != older for n in _VARIABLE.findall(text)}
    assert len(named) > 7
    assert named - known_variables() == set()


@pytest.fixture
def workload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which `requests.jsonl` is what workload.md shows."""
    text = PAGES[ROOT / "docs" / "workload.md"]
    lines, document = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    (tmp_path / "requests.jsonl").write_text(lines, encoding="utf-8")
    (tmp_path / "requests.json").write_text(document, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_both_layouts_of_a_workload_are_read(workload: Path) -> None:
    assert read_workload("requests.jsonl").queries == ["who?", "what?"]
    assert read_workload("requests.json").queries == ["who?"]


@pytest.mark.parametrize("rest", [rest for name, rest in invoked() if name == "simulate"])
def test_simulations_run(rest: str, workload: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", *shlex.split(rest)]) == 0
    assert "no order exceeds" in capsys.readouterr().out

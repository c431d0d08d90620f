"""The command as people start it: help, version, exit statuses, pipes; real processes."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import contextpilot
from contextpilot.cli import COMMANDS

CHECKOUT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "contextpilot")


def start(*argv, data=b"", **variables):
    """Run the command in a process of its own, from another folder than the checkout."""
    return subprocess.run(
        [*COMMAND, *map(str, argv)],
        input=data,
        capture_output=True,
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), **variables},
        check=False,
        timeout=120,
    )


def test_the_command_over_standard_input():
    lines = b'{"contexts": [1, 2]}\n{"contexts": [2, 1]}\n'
    done = start("simulate", "-", "--json", "--capacity", "unlimited", data=gzip.compress(lines))
    assert (done.returncode, done.stderr) == (0, b"")
    [row] = json.loads(done.stdout)["capacities"]
    assert (row["plain"]["hit_tokens"], row["online"]["hit_tokens"]) == (0, 512)


def test_a_user_error_is_one_message_and_status_1(tmp_path):
    done = start("simulate", tmp_path / "none.jsonl")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"contextpilot simulate: ")
    assert b"none.jsonl" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_output_that_the_terminal_cannot_show_is_escaped(tmp_path):
    path = tmp_path / "häuser.jsonl"
    path.write_text('{"contexts": [1]}')
    done = start("simulate", path, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(rb"h\xe4user.jsonl: 1 request")


def test_a_reader_that_went_away_is_no_error():
    with subprocess.Popen(
        [*COMMAND, "simulate", "-", "--json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    ) as process:
        process.stdout.close()
        process.stdin.write(b'{"contexts": [1, 2]}')
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", [["doctor"], ["run", "--", sys.executable, "-c", ""]])
def test_closed_standard_streams_stop_nothing(command, closed):
    ours = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *COMMAND, *command]
    assert subprocess.run(shell, env=ours, check=False, timeout=120).returncode == 0


def test_version(run):
    assert run("--version").out == f"contextpilot {contextpilot.__version__}\n"


def test_without_a_command_the_help_is_shown(run):
    shown = run()
    assert (shown.status, shown.err) == (0, "")
    assert shown.out == run("--help").out
    for command in COMMANDS:
        assert f"  {command.name}" in shown.out
        assert command.help in " ".join(shown.out.split())


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_of_each_command_shows_examples(run, command):
    shown = run(command.name, "--help")
    assert shown.status == 0
    assert shown.out.startswith(f"usage: contextpilot {command.name}")
    joined = shown.out.replace(" \\\n     ", "")
    for example in command.examples.splitlines():
        assert f"  {example}\n" in joined


@pytest.mark.parametrize("name", ["", *(command.name for command in COMMANDS)])
@pytest.mark.parametrize("columns", [60, 100])
def test_help_fits_the_terminal(run, monkeypatch, name, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = run(*filter(None, [name]), "--help").out.splitlines()
    assert [line for line in lines if len(line) > columns] == []
    assert any(len(line) > columns / 2 for line in lines)


@pytest.mark.parametrize("argv", [("dance",), ("simulate",), ("demo", "--loud"), ("--verbose",)])
def test_wrong_usage_is_status_2(run, argv):
    complaint = run.refused(*argv, status=2)
    assert complaint.startswith("usage: contextpilot")
    assert "error: " in complaint


def test_an_unknown_option_shows_the_usage_of_its_command(run):
    complaint = run.refused("doctor", "--index", "http://here", status=2)
    assert complaint.startswith("usage: contextpilot doctor [options]\n")
    assert "contextpilot doctor: error: unrecognized arguments: --index http://here" in complaint
    assert "usage: contextpilot [-h]" in run.refused("--verbose", status=2)


DEAD = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (("simulate", "GONE"), "GONE"),
        (("simulate", "FOLDER"), "FOLDER"),
        (("simulate", "BAD"), "not JSON"),
        (("simulate", "GOOD", "--plot", "GONE/hits.png"), "no folder"),
        (("bench", "--engine", DEAD, "--workload", "GONE"), "GONE"),
        (("bench", "--engine", DEAD, "--workload", "BAD"), "not JSON"),
        (("bench", "--engine", DEAD, "--workload", "GOOD", "--wait", "0"), "does not answer"),
        (("bench", "--engine", "here", "--workload", "GOOD"), "http(s)"),
        (("bench", "--engine", DEAD, "--workload", "GOOD", "--out", "GOOD"), "GOOD"),
        (("serve", "--config", "GONE"), "GONE"),
        (("serve", "--config", "FOLDER"), "FOLDER"),
        (("serve", "--config", "BAD"), "not TOML"),
        (("serve", "--engine", "here"), "engine must be like"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_a_user_can_mend_is_no_traceback(run, tmp_path, monkeypatch, argv, word):
    (tmp_path / "GOOD").write_text('{"query": "q", "contexts": ["one text", "another"]}\n')
    (tmp_path / "BAD").write_text("{neither JSON nor TOML")
    (tmp_path / "FOLDER").mkdir()
    monkeypatch.chdir(tmp_path)
    complaint = run.refused(*argv)
    assert complaint.startswith(f"contextpilot {argv[0]}: ")
    assert word in complaint
    assert "[Errno" not in complaint


def test_an_interruption_while_the_command_is_read_is_quiet_too():
    code = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'contextpilot.commands':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "from contextpilot.__main__ import main\n"
        "sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=CHECKOUT)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")
    assert (
        'contextpilot = "contextpilot.__main__:main"' in (CHECKOUT / "pyproject.toml").read_text()
    )


def test_an_interruption_is_status_130(run, save, monkeypatch):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("contextpilot.commands.simulate.compare", interrupt)
    shown = run("simulate", save([[1]]))
    assert shown == (130, "", "")

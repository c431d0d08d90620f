"""Scripts tell what their user can mend in one line: no script ends in a traceback."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
SCRIPTS = CHECKOUT / "scripts"
STARTED_BY_OTHERS = ("containers/both.py", "engines/vllm_hybrid_run.py")
"""A container's first process, and a part of another script."""
NAMES = sorted(
    name
    for path in [*SCRIPTS.glob("*.py"), *SCRIPTS.glob("*/*.py")]
    if (name := str(path.relative_to(SCRIPTS))) not in STARTED_BY_OTHERS
    and '__name__ == "__main__"' in path.read_text()
)
DEAD = "http://127.0.0.1:9"
SPECIAL = ("docs_questions.py", "site/build.py", "bench_kv_events.py")
"""Takes no path, or needs tools of its own to start."""


class Case(NamedTuple):
    """A command line that must fail, and a word of the complaint."""

    argv: tuple[str, ...]
    word: str = ""


CASES = (
    Case(("bench_answers.py", "--engine", DEAD, "--questions", "BAD", "--journal", "OUT")),
    Case(("bench_answers.py", "--engine", DEAD, "--questions", "GONE", "--journal", "OUT"), "GONE"),
    Case(("bench_engines.py", "GONE", "OUT"), "workloads.py --help tells"),
    Case(("bench_engines.py", "EMPTY", "OUT"), "workloads.py --help tells"),
    Case(("bench_engines.py", "EMPTY", "LOCKED"), "LOCKED"),
    Case(("bench_forms.py", "GONE.json.gz"), "workloads.py --help tells"),
    Case(("bench_forms.py", "BAD"), "gzip"),
    Case(("bench_frontier.py", "--workloads", "EMPTY"), "workloads.py --help tells"),
    Case(("bench_frontier.py", "--workloads", "GONE"), "workloads.py --help tells"),
    Case(("bench_plan.py", "--only", "hits", "--workloads", "GONE"), "workloads.py --help"),
    Case(("bench_slots.py", "--workload", "GONE.json.gz"), "workloads.py --help tells"),
    Case(("bench_slots.py", "--workload", "BAD"), "gzip"),
    Case(("check_answers.py", "--engine", DEAD), "refused"),
    Case(("workloads.py", "OUT", "--locomo", "GONE"), "GONE"),
    Case(("workloads.py", "OUT", "--locomo", "BAD"), "not JSON"),
    Case(("workloads.py", "OUT", "--nq", "OTHER"), "is it the file that the help names"),
    Case(("workloads.py", "OUT", "--mtrag", "OTHER"), "is it the file that the help names"),
    Case(("workloads.py", "LOCKED", "--nq", "OTHER"), "LOCKED"),
)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("places")
    (folder / "BAD").write_text("{not json")
    (folder / "OTHER").write_text('[{"other": 1}]')
    (folder / "EMPTY").mkdir()
    (folder / "LOCKED").write_text("a file where a folder is asked for")
    return folder


@pytest.fixture(scope="module")
def outcomes(places: Path) -> dict[tuple[str, ...], tuple[int, str]]:
    """Every command line of this file, run in one go."""
    lines = [case.argv for case in CASES]
    lines += [(name, "--unheard-of") for name in NAMES if name not in SPECIAL]
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("forked_runs.py")],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        cwd=places,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "hooks")])},
        check=True,
    )
    found = json.loads(done.stdout)
    return {line: (status, text) for line, (status, text) in zip(lines, found, strict=True)}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case.argv))
def test_what_a_user_can_mend_is_one_line(
    outcomes: dict[tuple[str, ...], tuple[int, str]], case: Case
) -> None:
    status, text = outcomes[case.argv]
    assert "Traceback" not in text
    assert status == 1, text
    assert case.word in text


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name not in SPECIAL])
def test_an_unknown_option_is_wrong_usage(
    outcomes: dict[tuple[str, ...], tuple[int, str]], name: str
) -> None:
    status, text = outcomes[name, "--unheard-of"]
    assert "Traceback" not in text
    assert status == 2, text
    assert text.startswith("usage: ")


@pytest.mark.parametrize("name", NAMES)
def test_every_script_runs_plainly(name: str) -> None:
    """What ends a script, an interruption too, is told by `plainly.run`."""
    last = ast.parse((SCRIPTS / name).read_text()).body[-1]
    assert isinstance(last, ast.If)
    assert "plainly.run(main)" in ast.unparse(last)


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        ("KeyboardInterrupt()", 130, "interrupted"),
        ("FileNotFoundError(2, 'No such file', 'x')", 1, "No such file"),
        ("PermissionError(13, 'Permission denied', 'x')", 1, "Permission denied"),
        ("ConnectionRefusedError('nobody')", 1, "nobody"),
        ("__import__('json').JSONDecodeError('bad', '{', 0)", 1, "is not JSON"),
        ("ModuleNotFoundError('no', name='vllm')", 1, "vllm is not installed"),
        ("__import__('contextpilot.errors').errors.CommandError('mend it')", 1, "mend it"),
        ("BrokenPipeError()", 141, ""),
        ("SystemExit(3)", 3, ""),
        ("KeyError('ours')", 1, "Traceback"),
    ],
)
def test_errors_of_the_user_are_told_apart_from_ours(raised: str, status: int, said: str) -> None:
    code = f"import plainly\ndef main():\n    raise {raised}\nplainly.run(main)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": f"{SCRIPTS}{os.pathsep}{CHECKOUT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    assert said in done.stderr
    assert ("Traceback" in done.stderr) == (said == "Traceback")

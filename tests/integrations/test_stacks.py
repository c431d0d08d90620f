"""Each integration against the real package, newest and oldest, in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from requirement import absent

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (ROOT, ROOT / "hooks", ROOT / "tests")
sys.path.insert(0, str(ROOT / "scripts"))

stacks = pytest.importorskip("stacks", reason="needs tomllib, Python 3.11")

pytestmark = [pytest.mark.slow, pytest.mark.engine, pytest.mark.timeout(900)]


@pytest.mark.parametrize("name", stacks.STACKS)
def test_a_stack(name: str) -> None:
    if command := stacks.missing(name):
        absent(f"{name} is absent; run: {command}")
    folder = Path(__file__).parent
    own = name.rpartition("-")[0].replace("-", "_")
    (cases,) = (path for path in folder.glob("*.py") if path.stem in (f"in_{own}", f"test_{own}"))
    run = subprocess.run(
        [stacks.stack(name).python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--noconftest",
         "-c", folder / "stack.ini", "--rootdir", folder, cases],
        cwd=folder, capture_output=True, text=True, timeout=840,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, SOURCES))},
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout
    assert "skipped" not in run.stdout

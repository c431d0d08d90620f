"""The README's Python runs as it stands, and the files that it links to exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_the_readme_shows_python() -> None:
    assert len(BLOCKS) >= 4


@pytest.mark.parametrize("code", BLOCKS, ids=[f"block{n}" for n in range(1, len(BLOCKS) + 1)])
def test_blocks_run_without_a_warning(code: str) -> None:
    free = code.replace("127.0.0.1:8765", "127.0.0.1:0")  # the port may be taken on this machine
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", free],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize("command", ["contextpilot demo", "python -m pytest"])
def test_the_two_commands_stand_alone_on_a_line(command: str) -> None:
    lines = [line for line in TEXT.splitlines() if command in line and line.startswith("pip ")]
    assert len(lines) == 1

"""The Python of README and docs runs as it stands, and the files that they link to exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    page: page.read_text(encoding="utf-8") for page in (ROOT / "README.md", *ROOT.glob("docs/*.md"))
}
TEXT = PAGES[ROOT / "README.md"]
BLOCKS = {
    f"{page.stem}-{number}": code
    for page, text in sorted(PAGES.items())
    if page.stem not in ("langchain", "llama-index")  # run where these packages are: integrations/
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL), 1)
}
NEED_ENGINE = {"llamacpp-1"}
"""Blocks that launch an engine; what they call is driven by the tests in tests/engines."""


def test_the_readme_shows_python() -> None:
    assert sum(name.startswith("README") for name in BLOCKS) >= 4


@pytest.mark.parametrize("name", sorted(BLOCKS.keys() - NEED_ENGINE))
def test_blocks_run_without_a_warning(name: str) -> None:
    free = BLOCKS[name].replace(
        "127.0.0.1:8765", "127.0.0.1:0"
    )  # the port may be taken on this machine
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", free],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout


@pytest.mark.parametrize("name", sorted(NEED_ENGINE))
def test_blocks_that_need_an_engine_import_what_exists(name: str) -> None:
    lines = BLOCKS[name].splitlines()
    exec("\n".join(line for line in lines if line.startswith(("import ", "from "))), {})
    compile(BLOCKS[name], name, "exec")


def test_links_lead_somewhere() -> None:
    for page, text in PAGES.items():
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.mark.parametrize("command", ["contextpilot demo", "python -m pytest"])
def test_the_two_commands_stand_alone_on_a_line(command: str) -> None:
    lines = [line for line in TEXT.splitlines() if command in line and line.startswith("pip ")]
    assert len(lines) == 1

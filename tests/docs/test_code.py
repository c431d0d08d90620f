"""The Python of README and docs runs as it stands, and the files that they link to exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from scripted_engine import scripted_engine
from written import PAGES, README, ROOT, blocks

IN_STACKS = {
    each.stem.removeprefix("in_").replace("_", "-")
    for each in ROOT.glob("tests/integrations/in_*.py")
}
"""Pages whose code runs where these packages are: tests/integrations/in_NAME.py runs NAME.md."""
PYTHON = {
    block.name: block.code
    for block in blocks("python")
    if block.name.rpartition("-")[0] not in IN_STACKS
}
ENGINE = "http://127.0.0.1:8000/v1"
NEED_ENGINE = {"llamacpp-1"} & PYTHON.keys()
"""Blocks that launch an engine; what they call is driven by the tests in tests/engines."""


def test_the_readme_shows_python() -> None:
    assert sum(name.startswith("README") for name in PYTHON) >= 4


@pytest.mark.parametrize("name", sorted(PYTHON.keys() - NEED_ENGINE))
def test_blocks_run_without_a_warning(name: str, tmp_path: Path) -> None:
    # the port may be taken on this machine
    free = PYTHON[name].replace("127.0.0.1:8765", "127.0.0.1:0")
    with scripted_engine() as engine:
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", free.replace(ENGINE, engine.url)],
            cwd=tmp_path, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout


@pytest.mark.parametrize("name", sorted(NEED_ENGINE))
def test_blocks_that_need_an_engine_import_what_exists(name: str) -> None:
    lines = PYTHON[name].splitlines()
    exec("\n".join(line for line in lines if line.startswith(("import ", "from "))), {})
    compile(PYTHON[name], name, "exec")


@pytest.mark.parametrize("block", blocks("json"), ids=lambda block: block.name)
def test_json_is_json(block: object) -> None:
    code = block.code  # type: ignore[attr-defined]
    try:
        json.loads(code)
    except ValueError:
        assert [json.loads(line) for line in code.splitlines()]


@pytest.mark.parametrize("block", blocks("bash"), ids=lambda block: block.name)
def test_shell_is_shell(block: object) -> None:
    code = block.code  # type: ignore[attr-defined]
    run = subprocess.run(["bash", "-n"], input=code, capture_output=True, text=True, timeout=20)
    assert run.returncode == 0, run.stderr


def test_links_lead_somewhere() -> None:
    for page, text in PAGES.items():
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def slug(heading: str) -> str:
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)|[`*]", r"\1", heading)
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", plain.lower()).strip())


def test_anchors_lead_to_headings() -> None:
    fences = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
    found = 0
    for page, text in PAGES.items():
        for link, anchor in re.findall(r"\]\(([^)#:]*\.md|)#([^)]+)\)", text):
            target = PAGES[(page.parent / link).resolve() if link else page]
            if "<!-- made:" in target:
                continue  # the site's own check knows its anchors
            headings = re.findall(r"^#+ (.*)$", fences.sub("", target), re.MULTILINE)
            assert anchor in map(slug, headings), f"{page.name}: {link}#{anchor}"
            found += 1
    assert found > 10


@pytest.mark.parametrize("command", ["contextpilot demo", "python -m pytest"])
def test_the_two_commands_stand_alone_on_a_line(command: str) -> None:
    lines = [line for line in README.splitlines() if command in line and line.startswith("pip ")]
    assert len(lines) == 1

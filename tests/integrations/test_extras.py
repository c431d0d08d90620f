"""What an extra installs: its own project, and none of the others."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from requirement import absent

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

stacks = pytest.importorskip("stacks", reason="needs tomllib, Python 3.11")

EXTRAS = stacks.tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "optional-dependencies"
]
INTEGRATIONS = {
    path.stem
    for path in (ROOT / "contextpilot" / "integrations").glob("[a-z]*")
    if path.suffix == ".py" or (path / "__init__.py").exists()
}


def distribution(requirement: str) -> str:
    return re.match(r"[\w-]+", requirement)[0]


PROJECTS = {
    distribution(EXTRAS[extra][0]) for extra in EXTRAS if extra.replace("-", "_") in INTEGRATIONS
}


def test_every_integration_that_wants_a_project_has_an_extra_of_its_name() -> None:
    named = {extra.replace("-", "_") for extra in EXTRAS}
    assert {
        "langchain",
        "llama_index",
        "mem0",
        "pageindex",
        "lmcache",
        "ray",
    } <= INTEGRATIONS & named


@pytest.mark.engine
@pytest.mark.parametrize("name", stacks.STACKS)
def test_a_stack_holds_no_other_project(name: str) -> None:
    if command := stacks.missing(name):
        absent(f"{name} is absent; run: {command}")
    (folder,) = stacks.stack(name).root.glob("lib/python*/site-packages")
    installed = {
        path.name.partition("-")[0].replace("_", "-").lower() for path in folder.glob("*.dist-info")
    }
    own = distribution(stacks.STACKS[name][0])
    assert own in installed
    assert installed & PROJECTS <= {own}

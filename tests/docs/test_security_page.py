"""What the page on security names exists; its limits are those of the code."""

from __future__ import annotations

import re
import sys
from dataclasses import fields

import pytest
from written import PAGES, ROOT

from contextpilot.server.settings import Settings

sys.path.insert(0, str(ROOT / "scripts" / "site"))

import tables

PAGE = PAGES[ROOT / "docs" / "security.md"]
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
ACTORS = ("client", "tenant", "engine", "document", "web page", "neighbour", "observer")


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_every_test_that_is_named_exists(path: str, name: str) -> None:
    assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text("utf-8"), re.MULTILINE)


def test_each_actor_has_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| **")]
    assert len(NAMED) >= 20
    for actor in ACTORS:
        (row,) = (row for row in rows if row.startswith(f"| **{actor}**"))
        assert "::test_" in row, actor


def test_limits_are_those_of_the_code() -> None:
    written = tables.limits()
    assert "<!-- made: limits -->" in PAGE
    for item in fields(Settings):
        if item.name.endswith(("_bytes", "_timeout_s", "_requests", "_connections")):
            assert f"| `{item.name}` | {tables._shown(item)} |" in written
    assert "| head of a request | 65,536 |" in written

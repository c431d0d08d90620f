"""The reference names every public name and every endpoint; the site's own parts hold."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
from written import PAGES, ROOT

import contextpilot
from contextpilot.server.app import create_app
from contextpilot.server.settings import Settings

sys.path.insert(0, str(ROOT / "scripts" / "site"))

import links
import pages
import tables

SHOWN = re.findall(r"^::: ([\w.]+)$", PAGES[ROOT / "docs" / "python.md"], re.MULTILINE)


def resolved(name: str) -> object:
    try:
        return importlib.import_module(name)
    except ImportError:
        module, _, last = name.rpartition(".")
        return getattr(importlib.import_module(module), last)


def test_every_public_name_is_in_the_reference() -> None:
    shown = [resolved(name) for name in SHOWN]
    errors = importlib.import_module("contextpilot.errors")
    for name in contextpilot.__all__:
        value = getattr(contextpilot, name)
        assert value in shown or getattr(errors, name, None) is value, name


@pytest.mark.parametrize("command", tables.subcommands())
def test_every_flag_is_in_the_reference(command: str) -> None:
    written = tables.commands()
    for action in tables.subcommands()[command]._actions:
        for flag in action.option_strings:
            assert f"`{flag}`" in written or flag in ("-h", "--help")


def test_every_endpoint_is_in_the_reference() -> None:
    written = tables.endpoints()
    for path, methods in create_app(Settings()).openapi()["paths"].items():
        for method in methods:
            assert f"### {method.upper()} {path} " in written
    assert "| `contexts` | list of" in written
    assert "%(default)s" not in tables.commands()


def test_links_lead_to_pages_of_the_site(tmp_path: Path) -> None:
    gathered = pages.gather(tmp_path)
    assert {"index.md", "files/examples/batch.py.md", "files/CHANGELOG.md"} <= set(gathered)
    home = (tmp_path / "index.md").read_text("utf-8")
    assert "](docs/" not in home
    assert "](quickstart.md)" in home
    assert "made:" not in (tmp_path / "endpoints.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("html", "fault"),
    [
        ('<a href="b.html#there">', None),
        ('<a href="b.html#absent">', "no such anchor"),
        ('<a href="c.html">', "leads nowhere"),
        ('<a href="https://example.org">', None),
        ('<script src="https://example.org/x.js">', "is loaded from elsewhere"),
        ('<img src="//example.org/x.png">', "is loaded from elsewhere"),
        ('<img src="x.png">', "is not there"),
    ],
)
def test_faults_of_a_site_are_found(html: str, fault: str | None, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(html)
    (tmp_path / "b.html").write_text('<p id="there">')
    found = list(links.faults(tmp_path))
    assert [fault in text for text in found] == [True] if fault else not found

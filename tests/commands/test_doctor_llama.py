"""The doctor's look at llama-server: absent, unfit, and able to report."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from contextpilot.commands.checks.llama_server import check_llama_server


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("LLAMA_SERVER_BIN", "CONTEXTPILOT_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)


def test_a_server_that_nobody_asked_for_may_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(check_llama_server()) == []
    monkeypatch.setenv("LLAMA_SERVER_BIN", "/nowhere/llama-server")
    [check] = check_llama_server()
    assert (check.status, "/nowhere/llama-server" in check.detail) == ("fail", True)


def test_a_server_that_cannot_report_is_warned_of(tmp_path: Path) -> None:
    script = tmp_path / "llama-server"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    [check] = check_llama_server()
    assert check.status == "warn"
    assert "is a script, not a program" in check.detail


@pytest.mark.skipif(sys.platform != "linux", reason="looks into an ELF program")
def test_a_static_program_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    program = shutil.which("true", path="/bin:/usr/bin")
    assert program is not None
    monkeypatch.setenv("LLAMA_SERVER_BIN", program)
    [check] = check_llama_server()
    assert check.status == "warn"
    assert "does not use a shared libllama" in check.detail

"""Runs command lines in this process, for tests."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from contextpilot.cli import main


class Result(NamedTuple):
    """What a command wrote, and its exit status."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        """Return the decoded output."""
        return json.loads(self.out)


class Runner:
    """Runs command lines in this process, as the installed command would."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *argv: object) -> Result:
        """Run one command line."""
        self._capsys.readouterr()
        try:
            status = main([str(word) for word in argv])
        except SystemExit as stop:
            status = int(stop.code or 0)
        return Result(status, *self._capsys.readouterr())

    def refused(self, *argv: object, status: int = 1) -> str:
        """Run a command line that must fail with this status; return what it complains of."""
        result = self(*argv)
        assert result.status == status, result
        assert result.out == ""
        assert "Traceback" not in result.err
        return result.err

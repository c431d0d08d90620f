"""The progress bar: in a terminal only, and only for what takes long."""

from __future__ import annotations

import io
import sys

import pytest

from contextpilot.progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with ProgressBar("planning", show_after=0) as bar:
        bar(0, 0)
        bar(1, 4)
    drawn = sys.stderr.getvalue()
    assert "planning" in drawn
    assert "25 %" in drawn
    assert drawn.endswith("\r\033[K")


def test_nothing_is_drawn_before_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with ProgressBar("planning", show_after=3600) as bar:
        bar(1, 4)
    assert sys.stderr.getvalue() == ""


def test_nothing_is_drawn_outside_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with ProgressBar("planning", show_after=0) as bar:
        bar(1, 4)
    assert sys.stderr.getvalue() == ""

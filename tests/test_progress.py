"""The progress bar: in a terminal only, and only for what takes long."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

import contextpilot as cp
from contextpilot import progress
from contextpilot.progress import ProgressBar, is_asked_for


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


def test_the_library_shows_a_bar_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(progress, "_SHOW_AFTER_S", 0.0)
    monkeypatch.setattr(ProgressBar.__init__, "__defaults__", (0.0,))
    monkeypatch.setattr(progress, "_REDRAW_S", 0.0)
    batch = [[f"words {n} " * 80, f"words {n + 1} " * 80] for n in range(60)]

    def drawn(**named: Any) -> str:
        sys.stderr.truncate(0)  # type: ignore[attr-defined]
        with cp.ContextPilot(**named) as pilot:
            pilot.optimize_batch(batch, ["q"] * len(batch))
        return sys.stderr.getvalue()  # type: ignore[attr-defined,no-any-return]

    assert drawn() == ""
    assert "planning" in drawn(progress=True)
    monkeypatch.setenv("CONTEXTPILOT_PROGRESS", "1")
    assert "planning" in drawn()
    assert drawn(progress=False) == ""
    with cp.ContextPilot(listen="127.0.0.1:0") as server:
        assert drawn(index_url=server.index_url) == ""  # what plans for others is a server


def test_what_is_neither_yes_nor_no_is_named() -> None:
    assert is_asked_for(None, {"CONTEXTPILOT_PROGRESS": " ON "})
    assert not is_asked_for(None, {"CONTEXTPILOT_PROGRESS": ""})
    with pytest.raises(ValueError, match="CONTEXTPILOT_PROGRESS"):
        is_asked_for(None, {"CONTEXTPILOT_PROGRESS": "maybe"})
    with pytest.raises(TypeError, match="progress"):
        cp.ContextPilot(progress=1)  # type: ignore[arg-type]

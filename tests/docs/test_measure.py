"""What the examples measure at an engine: tokens that it had cached, and the first one's time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

import measure
from pretend_engine import pretend_engine

TURNS = [measure.Turn(each, measure.retrieve(each)) for each in measure.QUESTIONS]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pretend_engine() as url:
        yield url.removesuffix("/v1")


def test_an_engine_tells_what_it_had_cached(
    engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given, planned = measure.compare(TURNS, engine)
    assert planned > 2 * given > 0
    assert capsys.readouterr().out.count("first token after") == 2
    again, _ = measure.compare(TURNS, f"{engine}/v1")
    assert again == pytest.approx(given, abs=0.02)  # what the run before left does not count


def test_what_is_no_engine_is_one_line(engine: str) -> None:
    with pytest.raises(SystemExit, match="does not answer as an engine does"):
        measure.compare(TURNS, "http://127.0.0.1:9")
    with pytest.raises(SystemExit, match="names no model"):
        measure.compare(TURNS, f"{engine}/elsewhere")

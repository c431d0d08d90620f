"""Tables and lines within a width."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextpilot.tables import MIN_WIDTH, format_table, table_width, terminal_width, wrap

WORDS = st.text("abc", min_size=1, max_size=12)


@given(
    st.integers(1, 8).flatmap(
        lambda n: st.lists(st.lists(WORDS, min_size=n, max_size=n), min_size=1, max_size=4)
    ),
    st.integers(30, 200),
)
def test_a_table_fits_and_holds_every_cell(lines: list[list[str]], width: int) -> None:
    header, *rows = lines
    text = format_table(header, rows, width)
    assert max(map(len, text.splitlines())) <= width
    tables = [[line.split() for line in part.split("\n")] for part in text.split("\n\n")]
    assert all([row[0] for row in table] == [line[0] for line in lines] for table in tables)
    joined = [[line[0]] for line in lines]
    for table in tables:
        for row, line in zip(joined, table, strict=True):
            row += line[1:]
    assert joined == lines
    if len(tables) == 1:
        assert text == format_table(header, rows)


def test_words_stay_whole() -> None:
    path = "/a/long/path/" + "x" * 80
    assert wrap(f"see {path} and-so-on there", 40).split("\n") == ["see", path, "and-so-on there"]


@pytest.mark.parametrize(("columns", "prose"), [("20", MIN_WIDTH), ("80", 80), ("300", 100)])
def test_widths_follow_the_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: str, prose: int
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert terminal_width() == prose
    assert table_width() == max(MIN_WIDTH, int(columns))


def test_a_pipe_bounds_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("os.get_terminal_size", _no_terminal)
    assert table_width() is None


def _no_terminal(_: int) -> None:
    raise OSError

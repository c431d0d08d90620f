"""Patterns at the beginnings of lines: what `re` finds with `^`, whatever the region."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextpilot.prompt.extract.group import Span
from contextpilot.prompt.extract.scan import LinePattern, matches

TEXTS = st.lists(st.sampled_from(["\n", "a", "b:", " ", "1", "é", "\r", "[", "- "])).map("".join)


@pytest.mark.parametrize(
    "pattern",
    [r"a[ab]*", r"[ \t]{0,2}(?=[\[1])", r"(a|b:)+$", r"(?=([^\d\n]{0,3}))\1\d", r"[^\n]*"],
)
@given(text=TEXTS, start=st.integers(0, 30), length=st.integers(0, 30))
def test_lines_begin_where_re_has_them_begin(
    pattern: str, text: str, start: int, length: int
) -> None:
    start = min(start, len(text))
    end = min(start + length, len(text))
    known = re.compile(f"^(?:{pattern})", re.MULTILINE)
    expected = [(m.span(), m.group()) for m in known.finditer(text, start, end)]
    found = [(m.span(), m.group()) for m in matches(LinePattern(pattern), text, Span(start, end))]
    # an empty line at the very end of a region holds nothing that a pattern of ours looks for
    assert found == [one for one in expected if one[1] or one[0][0] < end or one in found]


def test_long_texts_are_looked_through_in_steps_without_loss() -> None:
    text = "x" * 300_000 + "\n" + "mark\n" * 100_000 + "mark"
    found = [m.start() for m in matches(LinePattern("mark"), text, Span(0, len(text)))]
    assert len(found) == 100_001
    assert found[0] == 300_001

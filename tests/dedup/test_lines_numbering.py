"""Line numbers of file readers: found in listings, and only there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextpilot.dedup.numbering import Listing, listings

CODE = ["def main() -> None:", "    serve()", "", "\treturn", "class A:", "  x = 1"]
STYLES = [
    "{:6}\t{}",
    "{:>6}→{}",
    "{}: {}",
    "{}:{}",
    "{}|{}",
    "{:05}| {}",
    "{} | {}",
    "L{}: {}",
    "{}-{}",
]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("first", [1, 8, 99])
def test_every_style_gives_the_code(style: str, first: int) -> None:
    numbered = [style.format(number, line) for number, line in enumerate(CODE, first)]
    assert list(listings(numbered)) == [Listing(0, CODE)]
    around = ["<file>", *numbered, "</file>", "", *numbered]
    assert list(listings(around)) == [Listing(1, CODE), Listing(9, CODE)]


@pytest.mark.parametrize("style", ["{}:{}", "{}: {}"])
def test_the_space_behind_the_sign_is_told_from_indentation(style: str) -> None:
    indented = ["    a = 1", "        b = 2", "    c = 3"]
    numbered = [style.format(number, line) for number, line in enumerate(indented, 1)]
    assert list(listings(numbered)) == [Listing(0, indented)]


@pytest.mark.parametrize(
    "lines",
    [
        ["2020: revenue rose", "2022: revenue fell", "2024: revenue rose"],
        ["1: a", "2: b"],
        ["3: a", "2: b", "1: c"],
        ["1: a", "2\tb", "3| c"],
        ["12:30 tea", "12:31 tea", "12:32 tea"],
        ["1. First do this", "2. Then do that", "3. Then stop"],
        ["٣: a", "٤: b", "٥: c"],
        [],
    ],
)
def test_numbers_that_are_no_listing(lines: list[str]) -> None:
    assert list(listings(lines)) == []


LINES = st.lists(st.sampled_from(["1: a", "2: b", "3: c", "4: d", "2:b", "3:", "5\tx", "", "text"]))


@given(LINES)
def test_listings_are_disjoint_rising_and_verbatim(lines: list[str]) -> None:
    end = 0
    for start, bodies in listings(lines):
        assert start >= end
        assert len(bodies) >= 3
        end = start + len(bodies)
        heads = [
            line[: len(line) - len(body)]
            for line, body in zip(lines[start:end], bodies, strict=True)
        ]
        assert [head + body for head, body in zip(heads, bodies, strict=True)] == lines[start:end]
        numbers = [int(head.strip(" :|\t")) for head in heads]
        assert numbers == list(range(numbers[0], numbers[0] + len(bodies)))


@given(LINES)
def test_no_listing_is_missed(lines: list[str]) -> None:
    numbered = ["header", *lines, "7: x", "8: y", "9: z", "footer"]
    assert any(
        start <= len(lines) + 1 and start + len(bodies) == len(lines) + 4
        for start, bodies in listings(numbered)
    )

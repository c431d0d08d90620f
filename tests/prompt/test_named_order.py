"""Titles that count by days, months, years and words for numbers; titles that count nothing."""

from __future__ import annotations

import pytest

from contextpilot.prompt.extract import look
from contextpilot.prompt.extract.named_order import count_by_name

COUNTED = (
    "Monday|Tuesday|Wednesday",
    "Shift of Friday|Shift of Saturday|Shift of Sunday",
    "Mai|Juni|Juli",
    "Q3 2023|Q4 2023|Q1 2024",
    "November 2023|December 2023|January 2024",
    "3 March 2024|9 March 2024|1 April 2024",
    "Report 2024|Report 2023|Report 2021",
    "Part One|Part Two|Part Three",
    "Act IV|Act V|Act VI",
    "Draft 1|Draft 2|Draft 5|Final",
    "Re: Dues|Dues|AW: Re: Dues",
    "yard.txt:1-20|yard.txt:21-40|yard.txt:41-60",
    "第三章|第四章|第五章",
    "水曜日|木曜日|金曜日",
)
OTHERS = (
    "Monday|Tuesday",  # any two are in an order
    "Monday|Friday|Tuesday",
    "Report 2023|Report 2021|Report 2024",
    "One Hundred Years of Solitude|Three Men in a Boat|The Second Sex",
    "Harbour|Port|Canal",
    "f1.pdf|f3.pdf|f4.pdf",
    "Score: 0.93|Score: 0.86|Score: 0.71",
    "Re: Dues|Re: Crane|Re: Slip",
    "Node ID: 3|Node ID: 5|Node ID: 9",
    "May|June Carter|Augustus",
    "||",
    "2019 budget|2020 census|2021 floods",
)


@pytest.mark.parametrize("titles", COUNTED)
def test_titles_that_differ_by_what_counts_are_in_a_sequence(titles: str) -> None:
    assert count_by_name(titles.split("|"))
    assert count_by_name(titles.split("|")[::-1])


@pytest.mark.parametrize("titles", OTHERS)
def test_other_titles_count_nothing(titles: str) -> None:
    assert not count_by_name(titles.split("|"))


TEXTS = (
    "Rye is sown late in September, when the soil is still warm but no longer dry.",
    "The mill stands on the left bank, since the right one floods in every thaw.",
    "Salt came up the river in flat boats that were broken up for timber here.",
)


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ('<document title="{name}">{text}</document>\n', "counted"),
        ("Document (Title: {name}): {text}\n\n", "counted"),
        ("Title: {name}\nText: {text}\n\n", "counted"),
    ],
)
def test_blocks_with_such_titles_stay(written: str, code: str) -> None:
    head, question = "Answer from these documents:\n\n", "\nQuestion: Where does the mill stand?"
    for names, expected in (("April May June", code), ("April June May", "")):
        blocks = zip(names.split(), TEXTS, strict=True)
        text = head + "".join(written.format(name=name, text=text) for name, text in blocks)
        looked = look([{"role": "user", "content": text + question}])
        assert (looked.left[0].code if looked.left else "") == expected
        assert (looked.extraction is None) is bool(expected)


@pytest.mark.parametrize(
    ("chunks", "source", "stay"),
    [("1 2 4", "a", True), ("2 1 4", "a", False), ("1 2 4", "{text:.3}", False)],
)
def test_parts_of_one_file_in_order_stay(chunks: str, source: str, stay: bool) -> None:
    blocks = [
        f'<document source="{source.format(text=text)}" chunk="{number}/9">{text}</document>'
        for number, text in zip(chunks.split(), TEXTS, strict=True)
    ]
    looked = look([{"role": "user", "content": "\n".join(blocks) + "\n\nWho broke up boats?"}])
    assert (looked.extraction is None) is stay

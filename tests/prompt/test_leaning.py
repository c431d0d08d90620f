"""Blocks that lean on one another stay, whatever their markup says; others may move."""

from __future__ import annotations

import pytest

from contextpilot.prompt.extract import extract_blocks
from contextpilot.prompt.extract.leaning import lean
from contextpilot.prompt.extract.ordered import sequence_reason

ALONE = [
    "Water off the coast of Brittany is cold all year, and seals are often seen from the cliffs.",
    "Interest on the loan is paid every quarter; the rate was fixed in 2019 for ten years.",
    "The second harbour basin was dug in 1911, when the first had silted up for good.",
    "This is how the county describes the ferry: slow, reliable, and never on time in fog.",
    "He who crosses the bridge on foot pays nothing, says the ordinance of 1782 on tolls.",
]
STEPS = [
    "Switch off the mains and wait until the fan has stopped.",
    "Carefully loosen both screws of the cover and lift it off.",
    "Now take out the old filter, noting which way its arrow points.",
    "Once the new one is in its place, turn the mains on again.",
]


def test_documents_of_their_own_do_not_lean() -> None:
    assert sequence_reason(ALONE) == ""
    assert lean(ALONE, ALONE) == ""


def test_steps_are_told_by_what_they_tell_to_do() -> None:
    assert sequence_reason(STEPS) == "counted"
    assert sequence_reason([STEPS[0], *ALONE]) == ""


@pytest.mark.parametrize(
    "blocks",
    [
        [
            "Old Bram had never left the lighthouse.",
            "That evening he did.",
            "He took a lamp along.",
        ],
        [
            "Ladies and gentlemen, I promised three things.",
            "The second took long.",
            "And the third?",
        ],
        [
            "The tenant pays on the third working day.",
            "Where the preceding clause is not kept, interest is owed.",
            "Notices are given in writing.",
        ],
        ["首先关闭电源并等待十分钟。", "然后拧下背板上的螺丝。", "最后装回侧板并开机。"],
    ],
)
def test_what_goes_on_from_the_block_before_is_continued(blocks: list[str]) -> None:
    assert sequence_reason(blocks) == "continued"


def test_one_block_in_many_that_begins_so_is_no_story() -> None:
    assert sequence_reason([*ALONE[:3], "Then the ferry was sold to a yard in Gdansk."]) == ""
    assert sequence_reason([*ALONE, "See the following clause on fees."]) == ""


@pytest.mark.parametrize(
    ("blocks", "reason"),
    [
        (["INFO picked the job", "WARN the checksum is wrong", "ERROR gave it back"], "times"),
        (["— Who signed it?", "— The foreman.", "— For you?"], "speakers"),
        (["maja: where is the key", "tom: ask Inge", "maja: she has none"], "speakers"),
        (["HOST — Your first film?", "SALO — Stolen cameras.", "HOST — All of them?"], "speakers"),
        (["@@ -1,2 +1,3 @@\n+a", "@@ -9,2 +10,2 @@\n-b", "@@ -20 +21 @@\n+c"], "listing"),
        (["v1.0 reads it whole.", "v1.1 reads in pieces.", "v1.2 joins them."], "counted"),
    ],
)
def test_logs_talks_and_hunks_are_told_by_how_they_begin(blocks: list[str], reason: str) -> None:
    assert sequence_reason(blocks) == reason


def test_fields_of_two_words_are_no_speakers() -> None:
    assert (
        sequence_reason([f"Article Title: {i}\nArticle Snippet: {t}" for i, t in enumerate(ALONE)])
        == ""
    )


def test_verses_are_as_many_short_lines_each() -> None:
    verses = ["Up it goes a cat by night,\ndown it comes by day,\nleaning in the light"] * 2
    assert sequence_reason(verses) == "continued"
    assert sequence_reason(["Name: Anna\nTown: Brekk\nRole: pilot"] * 2) == ""
    assert sequence_reason([ALONE[0], verses[0]]) == ""


@pytest.mark.parametrize(("blocks", "found"), [(STEPS, False), (ALONE, True)])
def test_the_markup_of_documents_does_not_outweigh_it(blocks: list[str], found: bool) -> None:
    documents = "\n".join(f"<document>{block}</document>" for block in blocks)
    text = (
        f"<documents>\n{documents}\n</documents>\n\nWhat is said of the cover, the ferry, the loan?"
    )
    assert (extract_blocks([{"role": "user", "content": text}]) is not None) is found


def test_long_lists_are_judged_by_how_they_start() -> None:
    many = [f"{text} {n}" for n in range(40) for text in ALONE]
    assert sequence_reason([*many, *STEPS * 60]) == ""
    assert sequence_reason([*STEPS * 16, *many]) == "counted"


def test_people_named_before_make_blocks_go_on() -> None:
    told = ["Ilse bought the mill.", "She sold the bell.", "They wept.", "The bell is in a museum."]
    assert sequence_reason(told) == "continued"
    assert sequence_reason([told[0], told[1], told[3], ALONE[0]]) == ""


def test_steps_are_told_in_chinese_by_more_words() -> None:
    steps = ["首先铺平内帐。", "之后接好三根杆子。", "再把杆子穿过套管。", "再将两端插进扣眼。"]
    assert sequence_reason(steps) == "continued"
    assert sequence_reason(["再生能源占三成。", "其他能源占七成。", "水电站有两座。"]) == ""


def test_clauses_and_answers_name_no_speaker_and_go_on() -> None:
    rule = "The same applies to boats that lie ashore."
    assert (
        sequence_reason(["Dues are paid in May.", "In such case they rise.", rule]) == "continued"
    )
    talk = ["Okay so who greased it?", "Yeah, we did.", "Right, with what?", "The wrong sort."]
    assert sequence_reason(talk) == "speakers"
    assert sequence_reason(["Great value, and quiet.", "Right-hand drive.", "Too loud."]) == ""

"""Where an open list ends: an answer to be written, a closing formula, the mark of a turn."""

from __future__ import annotations

import pytest

from contextpilot.prompt.extract import extract_blocks

TEXTS = (
    "The ferry to the island runs four times a day from April to October, weather permitting.",
    "The second basin was dug in 1911 and takes ships with a draught of up to nine metres.",
    "Harbour dues are paid at the office by the crane, in cash or by card, before noon.",
)


def found(text: str) -> int:
    extraction = extract_blocks([{"role": "user", "content": text}])
    return 0 if extraction is None else len(extraction.texts)


def listed(join: str = "\n") -> str:
    documents = join.join(f"Document {n}: {text}" for n, text in enumerate(TEXTS, 1))
    return f"Use the following documents. Question: When does the ferry run?\n\n{documents}"


@pytest.mark.parametrize(
    "ending",
    [
        "\nAnswer:",
        "\nQuestion: When does the ferry run?\nAnswer:",
        "\n\nFrage: When does the ferry run?\nAntwort:",
        "<|im_end|>\n<|im_start|>assistant\n",
    ],
)
def test_the_last_block_ends_before_what_closes_the_prompt(ending: str) -> None:
    assert found(listed() + ending) == len(TEXTS)


@pytest.mark.parametrize("ending", ["\nQuestion: When does it run?", "\nAnswer: four times a day"])
def test_what_may_be_the_last_block_s_own_leaves_it_in_place(ending: str) -> None:
    assert found(listed() + ending) < len(TEXTS)


def test_a_formula_that_closes_a_system_prompt_is_no_part_of_it() -> None:
    system = {"role": "system", "content": f"{listed()}\nThe above is the knowledge base."}
    extraction = extract_blocks([system, {"role": "user", "content": "When does the ferry run?"}])
    assert extraction is not None
    assert extraction.texts[-1] == TEXTS[-1]


def test_rules_between_blocks_belong_to_none() -> None:
    extraction = extract_blocks(
        [{"role": "user", "content": listed("\n\n------\n\n") + "\nAnswer:"}]
    )
    assert extraction is not None
    assert len(extraction.texts) == len(TEXTS)
    assert not any("---" in text for text in extraction.texts)
    (message,) = extraction.rebuild([2, 1, 0])
    assert message["content"].count("------") == len(TEXTS) - 1

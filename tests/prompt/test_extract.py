"""Blocks in chat messages: which are found, where they end, and what stays where it is."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from contextpilot.prompt.extract import Arrangement, extract_blocks

LONG = "{} is described here in as many words as a retrieved passage commonly has, and some more."
A, B, C = (LONG.format(name) for name in ("Alpha", "Beta", "Gamma"))


def user(text: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def reversed_text(text: str, **options: Any) -> str:
    """The text with the blocks that are found in it in reverse order."""
    found = extract_blocks(user(text), **options)
    assert found is not None
    changed = found.rebuild(list(reversed(range(len(found.texts)))))
    content = changed[0]["content"]
    assert isinstance(content, str)
    return content


# -- forms -----------------------------------------------------------------------------------------


def test_sibling_elements_of_a_document_tag_are_blocks() -> None:
    text = "Read:\n<documents>\n<doc>one</doc>\n<doc>two</doc>\n</documents>\nWhich?"
    assert extract_blocks(user(text)).texts == ["one", "two"]  # type: ignore[union-attr]
    assert reversed_text(text) == text.replace("one", "x").replace("two", "one").replace("x", "two")


def test_attributes_belong_to_their_block_and_counting_ones_to_the_place() -> None:
    text = '<doc id="1" title="A">one</doc> <doc id="2" title="B">two</doc>'
    assert reversed_text(text) == '<doc id="1" title="B">two</doc> <doc id="2" title="A">one</doc>'
    moved = reversed_text(text, labels="move")
    assert moved == '<doc id="2" title="B">two</doc> <doc id="1" title="A">one</doc>'


def test_ids_that_do_not_count_move_with_their_block() -> None:
    text = "<doc id='907'>one</doc>\n<doc id='12'>two</doc>"
    assert reversed_text(text) == "<doc id='12'>two</doc>\n<doc id='907'>one</doc>"
    found = extract_blocks(user(text))
    assert found is not None
    assert found.texts == ["<doc id='907'>one</doc>", "<doc id='12'>two</doc>"]
    assert found.legend([1, 0]) == ""


@pytest.mark.parametrize(
    "label", ["[{}] ", "[{}]: ", "Document {}: ", "Document [{}](Title: x) ", "### Source {}\n"]
)
def test_numbered_lists(label: str) -> None:
    items = [label.format(i) + text for i, text in enumerate((A, B, C), start=1)]
    swapped = [label.format(i) + text for i, text in enumerate((C, B, A), start=1)]
    ending = "\n\nQuestion: which?"
    assert reversed_text("\n\n".join(items) + ending) == "\n\n".join(swapped) + ending


def test_plain_numbers_need_a_line_that_announces_documents() -> None:
    steps = f"Do this:\n1. {A}\n2. {B}\n3. {C}"
    assert extract_blocks(user(steps)) is None
    documents = steps.replace("Do this:", "Retrieved documents:")
    assert extract_blocks(user(documents)).texts == [A, B, C]  # type: ignore[union-attr]
    assert extract_blocks(user(steps), "numbered").texts == [A, B, C]  # type: ignore[union-attr]


def test_short_numbered_lists_may_be_choices() -> None:
    assert extract_blocks(user("Pick one:\n[1] yes\n[2] no\n[3] maybe")) is None


@pytest.mark.parametrize("numbers", [(1, 2, 2), (1, 3, 4), (2, 3, 4)])
def test_numbers_that_do_not_count_up_are_no_list(numbers: tuple[int, ...]) -> None:
    lines = [f"[{n}] {text}" for n, text in zip(numbers, (A, B, C), strict=True)]
    assert extract_blocks(user("\n".join(lines))) is None


def test_tool_results_as_json_rows_keep_valid_json() -> None:
    rows = [{"rank": 1, "url": "u/1", "content": 'on\u00e9 "q"'}, {"rank": 2, "content": "two"}]
    text = json.dumps({"query": "x", "results": rows}, indent=1)
    messages = [{"role": "tool", "tool_call_id": "t", "content": text}]
    found = extract_blocks(messages)
    assert found is not None
    (changed,) = found.rebuild([1, 0], {0: 'say "hi"'})
    assert json.loads(changed["content"]) == {
        "query": "x",
        "results": [
            {"rank": 1, "content": "two"},
            {"rank": 2, "url": "u/1", "content": 'say "hi"'},
        ],
    }
    assert found.last.contents == ['on\u00e9 "q"', "two"]


@pytest.mark.parametrize(
    "rows",
    [
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        [{"step": 1, "text": "a"}, {"step": 2, "text": "b"}],
        [{"user": "ann", "text": "a", "ts": "1"}, {"user": "bob", "text": "b", "ts": "2"}],
        [{"name": "a", "size": 1}, {"name": "b", "size": 2}],
        [{"content": "a"}, {"content": 3}],
        [{"content": "only one"}],
        ["a", "b"],
    ],
)
def test_json_in_sequence_or_without_text_is_no_list_of_blocks(rows: list[Any]) -> None:
    assert extract_blocks([{"role": "tool", "content": json.dumps(rows)}]) is None


def test_memories_with_times_and_scores_are_blocks() -> None:
    rows = [{"memory": name, "created_at": "today", "score": 0.5} for name in ("tea", "rain")]
    found = extract_blocks([{"role": "tool", "content": json.dumps({"results": rows})}])
    assert found is not None
    assert found.texts == ["tea", "rain"]


def test_json_of_users_counts_only_on_request() -> None:
    text = 'Here: [{"text": "a"}, {"text": "b"}] Which?'
    assert extract_blocks(user(text)) is None
    assert reversed_text(text, mode="json") == 'Here: [{"text": "b"}, {"text": "a"}] Which?'


def test_markdown_sections_on_request() -> None:
    text = f"# Notes\n\n## One\n{A}\n\n## Two\n{B}\n\n## Three\n{C}\n\nQuestion: which?"
    assert extract_blocks(user(text)) is None
    found = extract_blocks(user(text), "markdown")
    assert found is not None
    assert found.texts == [f"## One\n{A}", f"## Two\n{B}", f"## Three\n{C}"]


def test_rules_separate_in_tool_results_and_wrappers() -> None:
    text = f"{A}\n---\n{B}\n---\n{C}\n"
    assert extract_blocks(user(text)) is None
    for message in (
        {"role": "tool", "content": text},
        {"role": "user", "content": f"<context>\n{text}</context>\nWhich?"},
    ):
        found = extract_blocks([message])
        assert found is not None
        assert found.texts == [A, B, C]


def test_a_separator_of_ones_own_separates_what_stands_between() -> None:
    text = f"Use these.\n##SEP##\n{A}\n##SEP##\n{B}\n##SEP##\nWhich?"
    found = extract_blocks(user(text), "separator", separator="##SEP##")
    assert found is not None
    assert found.texts == [A, B]
    assert extract_blocks(user(f"x\n\n{A}\n\n{B}\n\nq"), "separator", separator="\n\n").texts == [  # type: ignore[union-attr]
        A,
        B,
    ]


@pytest.mark.parametrize(
    "text",
    [
        "As shown in [3], it works.\n\n{}\n\nQuestion: why?",
        "Read.\n\n{}\n\nQuestion: compare [1] and [2].",
        "Read.\n\n{}\n\nQuestion: what does document 3 say?",
        "Source #2 is the best.\n\n{}\n\nQuestion: why?",
    ],
)
def test_numbers_that_the_prompt_speaks_of_stay_with_their_block(text: str) -> None:
    found = extract_blocks(user(text.format(numbered(A, B, C))))
    assert found is not None
    assert found.texts == [f"[1] {A}", f"[2] {B}", f"[3] {C}"]
    assert found.legend([2, 1, 0]) == ""


@pytest.mark.parametrize(
    "text",
    [
        "Cite like [1] or [2][3].\n\n{}\n\nQuestion: why?",
        "Use citations, e.g. [3].\n\n{}\n\nQuestion: why?",
        "See [the list](x) of 3.\n\n{}\n\nQuestion: which of 2 documents is longer?",
        "It is in [7].\n\n{}\n\nQuestion: why?",
    ],
)
def test_examples_of_citing_do_not_tie_numbers_to_blocks(text: str) -> None:
    found = extract_blocks(user(text.format(numbered(A, B, C))))
    assert found is not None
    assert found.texts == [A, B, C]


def test_questions_about_numbers_in_the_system_prompt() -> None:
    system = {"role": "system", "content": numbered(A, B, C)}
    for question, tied in (("Why?", False), ("What is in source 2?", True)):
        turns = [system, *user(question), *user("And document 3?")]
        found = extract_blocks(turns, scope="system")
        assert found is not None
        assert (found.texts != [A, B, C]) is tied


# -- where blocks end ------------------------------------------------------------------------------


def numbered(*texts: str) -> str:
    return "\n\n".join(f"[{i}] {text}" for i, text in enumerate(texts, start=1))


@pytest.mark.parametrize(
    "ending", ["\n\nQuestion: which?", "\n\nWhich of these is it?", "\n\n## Task\nSum up.", "\n\n"]
)
def test_the_last_block_moves_when_its_end_is_sure(ending: str) -> None:
    assert reversed_text(numbered(A, B, C) + ending) == numbered(C, B, A) + ending


@pytest.mark.parametrize(
    "ending",
    [
        "\n\nMore about Gamma, in a second paragraph.",
        "\nQuestion: which?",
        "\nand which is it?",
        "\n\nWrite a poem.",
    ],
)
def test_the_last_block_stays_when_its_end_is_unsure(ending: str) -> None:
    assert reversed_text(numbered(A, B, C) + ending) == numbered(B, A, C) + ending


def test_blocks_of_several_paragraphs_leave_the_end_unsure() -> None:
    text = numbered(f"{A}\n\n{A}", B, C) + "\n\nWhich?"
    assert reversed_text(text) == numbered(B, f"{A}\n\n{A}", C) + "\n\nWhich?"
    wrapped = f"<context>\n{numbered(f'{A}{chr(10)}{chr(10)}{A}', B, C)}\n</context>"
    assert extract_blocks(user(wrapped)).texts[2] == C  # type: ignore[union-attr]


def test_two_blocks_with_an_unsure_end_are_left_alone() -> None:
    assert extract_blocks(user(numbered(A, B) + "\n\nWrite a poem.")) is None


@pytest.mark.parametrize(
    "text",
    [
        "```xml\n<doc>one</doc>\n<doc>two</doc>\n```\nFix this.",
        "<doc>one ```</doc>\n<doc>two ```</doc>",
        "<doc><doc>one</doc></doc>\n<doc>two</doc>",
        "<doc>one</doc> and then <doc>two</doc>",
        "<doc></doc><doc></doc>",
        "<p>one</p>\n<p>two</p>",
        "no blocks at all",
        "",
    ],
)
def test_nothing_is_split_where_unsure(text: str) -> None:
    assert extract_blocks(user(text)) is None


# -- shapes of messages ----------------------------------------------------------------------------


def test_document_parts_of_anthropic() -> None:
    def document(text: str, **more: Any) -> dict[str, Any]:
        source = {"type": "text", "media_type": "text/plain", "data": text}
        return {"type": "document", "source": source, **more}

    one, two, ask = document("one", title="1"), document("two"), {"type": "text", "text": "Which?"}
    found = extract_blocks(user([one, two, ask]))
    assert found is not None
    assert found.last.contents == ["one", "two"]
    assert found.rebuild([1, 0])[0]["content"] == [two, one, ask]
    assert found.rebuild([0, 1], {1: "see above"})[0]["content"][1] == document("see above")
    for kept in (
        [document("one", citations={"enabled": True}), two, ask],
        [one, document("two", cache_control={"type": "ephemeral"}), ask],
        [one, ask, two],
        [one, {"type": "document", "source": {"type": "url", "url": "u"}}],
    ):
        assert extract_blocks(user(kept)) is None


def test_texts_of_every_shape_are_searched() -> None:
    text = "<doc>one</doc><doc>two</doc>"
    swapped = "<doc>two</doc><doc>one</doc>"
    for message in (
        {"role": "system", "content": text},
        {"role": "developer", "content": [{"type": "text", "text": text, "extra": 1}]},
        {"role": "user", "content": [{"type": "input_text", "text": text}]},
        {"type": "function_call_output", "call_id": "c", "output": text},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": text}]},
    ):
        found = extract_blocks([message])
        assert found is not None
        before = copy.deepcopy(message)
        (changed,) = found.rebuild([1, 0])
        assert json.dumps(changed) == json.dumps(before).replace(text, swapped)
        assert message == before
    assert extract_blocks([{"role": "assistant", "content": text}]) is None


def test_scope_chooses_whose_messages_are_searched() -> None:
    text = "<doc>one</doc><doc>two</doc>"
    messages = [{"role": role, "content": text} for role in ("system", "user", "tool")]
    kinds = {scope: extract_blocks(messages, scope=scope) for scope in ("system", "user", "tool")}
    for i, found in enumerate(kinds.values()):
        assert found is not None
        assert [group.path[0] for group in found.groups] == [i]
    both = extract_blocks(messages, scope=["user", "tool"])
    assert both is not None
    assert len(both.groups) == 2


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"mode": "magic"}, "mode"),
        ({"scope": "assistant"}, "scope"),
        ({"scope": []}, "scope"),
        ({"labels": "hide"}, "labels"),
        ({"separator": ""}, "separator"),
    ],
)
def test_unknown_options_are_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        extract_blocks(user("x"), **options)


def test_orders_and_replacements_are_checked() -> None:
    found = extract_blocks(user("<doc>one</doc><doc>two</doc>"))
    assert found is not None
    with pytest.raises(ValueError, match="order"):
        found.rebuild([0, 0])
    with pytest.raises(ValueError, match="replacements"):
        found.rebuild([0, 1], {7: "x"})


# -- several groups, notes, heads ------------------------------------------------------------------


def test_groups_of_one_text_are_arranged_together() -> None:
    text = "<doc>a</doc><doc>b</doc> then <memory>c</memory><memory>d</memory> end"
    found = extract_blocks(user(text))
    assert found is not None
    done = [Arrangement([1, 0], note="first note"), Arrangement([1, 0], {0: "C"}, "second")]
    assert found.arrange(done)[0]["content"] == (
        "<doc>b</doc><doc>a</doc>\n\nfirst note then "
        "<memory>d</memory><memory>C</memory>\n\nsecond end"
    )


def test_a_note_is_written_only_when_something_moved() -> None:
    text = numbered(A, B, C) + "\n\nQuestion: which?"
    found = extract_blocks(user(text))
    assert found is not None
    assert found.rebuild([0, 1, 2], note="moved")[0]["content"] == text
    legend = found.legend([2, 0, 1])
    assert "instead of the one shown: 1 is 3, 2-3 are 1-2. " in legend
    assert "shown: 1 is 2, 2 is 1, the others are right. " in found.legend([1, 0, 2])
    changed = found.rebuild([2, 0, 1], note=legend)[0]["content"]
    assert changed == f"{numbered(C, A, B)}\n\n{legend}\n\nQuestion: which?"


def test_heads_are_equal_as_long_as_what_stands_before_is_equal() -> None:
    system = {"role": "system", "content": "Be brief."}
    first, other = numbered(A, B, C) + "\n\nWhich?", numbered(B, C, A) + "\n\nWho?"
    one = extract_blocks([system, *user(first)])
    two = extract_blocks([system, *user(other)])
    assert one is not None
    assert two is not None
    assert one.head() == two.head()
    assert set(one.texts) == set(two.texts)
    assert one.head(before=[{"name": "tool"}]) != one.head()
    third = extract_blocks([{"role": "system", "content": "Be long."}, *user(first)])
    assert third is not None
    assert third.head() != one.head()


def test_the_head_of_a_later_turn_continues_the_path_of_the_first() -> None:
    turn = user(numbered(A, B, C) + "\n\nWhich?")
    first = extract_blocks(turn)
    both = extract_blocks([*turn, {"role": "assistant", "content": "A"}, *user(turn[0]["content"])])
    assert first is not None
    assert both is not None
    start = both.head([])
    assert start == first.head()
    done = [Arrangement([2, 0, 1])]
    later = both.head(done)
    assert later.keys[: len(start.keys)] == start.keys
    assert later.tokens > start.tokens
    assert later != both.head([Arrangement([0, 1, 2])])
    with pytest.raises(ValueError, match="arrangements"):
        both.head([*done, *done])

"""Blocks in chat messages: which are found, where they end, and what stays where it is."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from contextpilot.prompt.annotate import RANKING_TEMPLATE
from contextpilot.prompt.extract import RULES, Arrangement, Group, evidence, extract_blocks, look

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
    text = '<doc index="1" title="A">one</doc> <doc index="2" title="B">two</doc>'
    swapped = '<doc index="1" title="B">two</doc> <doc index="2" title="A">one</doc>'
    assert reversed_text(text) == swapped
    moved = reversed_text(text, labels="move")
    assert moved == '<doc index="2" title="B">two</doc> <doc index="1" title="A">one</doc>'


def test_an_id_never_leaves_its_content_though_it_counts() -> None:
    text = '<doc id="1">one</doc> <doc id="2">two</doc>'
    assert reversed_text(text) == '<doc id="2">two</doc> <doc id="1">one</doc>'
    found = extract_blocks(user(text))
    assert found is not None
    assert isinstance(found.last, Group)
    assert found.legend([1, 0]) == ""
    assert "from most to least important: 1,2." in found.last.ranking([1, 0], RANKING_TEMPLATE)


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


def called(name: str, content: Any, arguments: str = "{}") -> list[dict[str, Any]]:
    """A call of a tool and its result."""
    function = {"name": name, "arguments": arguments}
    call = {"id": "c1", "type": "function", "function": function}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": content},
    ]


def test_rows_of_a_search_move_whole_and_stay_valid_json() -> None:
    rows = [{"id": 1, "url": "u/1", "content": 'on\u00e9 "q"'}, {"id": 2, "content": "two"}]
    text = json.dumps({"query": "x", "results": rows}, indent=1)
    found = extract_blocks(called("web_search", text))
    assert found is not None
    changed = found.rebuild([1, 0], {0: 'say "hi"'})[1]
    assert json.loads(changed["content"]) == {
        "query": "x",
        "results": [{"id": 2, "content": "two"}, {"id": 1, "url": "u/1", "content": 'say "hi"'}],
    }
    assert found.last.contents == ['on\u00e9 "q"', "two"]


def test_rows_with_a_rank_or_from_no_search_stay() -> None:
    ranked = json.dumps([{"rank": 1, "content": A}, {"rank": 2, "content": B}])
    plain = json.dumps([{"id": 1, "content": A}, {"id": 2, "content": B}])
    for messages, code in (
        (called("web_search", ranked), "row-fields"),
        (called("fetch", plain), "no-evidence"),
        (called("read_file", plain), "file"),
        (called("bash", plain, '{"cmd": "psql -c x"}'), "command-output"),
        (called("list_comments", plain), "command-output"),
        (called("get_transcript", plain, '{"query": "x"}'), "sequence-tool"),
    ):
        looked = look(messages)
        assert looked.extraction is None
        assert [one.code for one in looked.left] == [code]


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
    rows = [
        {"id": name, "memory": name, "created_at": "today", "score": 0.5}
        for name in ("tea", "rain")
    ]
    found = extract_blocks([{"role": "tool", "content": json.dumps({"results": rows})}])
    assert found is not None
    assert found.last.contents == ["tea", "rain"]


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


def test_rules_separate_in_results_of_a_search_and_in_wrappers() -> None:
    text = f"{A}\n---\n{B}\n---\n{C}\n"
    for messages in (user(text), called("fetch", text), called("read_file", text)):
        assert extract_blocks(messages) is None  # a file looks like this, too
    wrapped = user(f"<context>\n{text}</context>\nWhich?")
    for messages in (called("search", text), wrapped, called("s", f"Search results:\n---\n{text}")):
        found = extract_blocks(messages)
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
        "As shown in [3], it works.\n\nSources:\n\n{}\n\nQuestion: why?",
        "Read the documents.\n\n{}\n\nQuestion: compare [1] and [2].",
        "Read the documents.\n\n{}\n\nQuestion: what does document 3 say?",
        "Use these documents. Source #2 is the best.\n\n{}\n\nQuestion: why?",
    ],
)
def test_documents_that_the_prompt_names_by_number_stay(text: str) -> None:
    looked = look(user(text.format(numbered(A, B, C))))
    assert looked.extraction is None
    assert [one.code for one in looked.left] == ["number-asked"]
    found = extract_blocks(user(text.format(numbered(A, B, C))), "numbered")
    assert found is not None  # the caller names the form: then numbers go along
    assert found.texts == [f"[1] {A}", f"[2] {B}", f"[3] {C}"]


@pytest.mark.parametrize(
    "text",
    [
        "Cite the documents like [1] or [2][3].\n\n{}\n\nQuestion: why?",
        "Use the documents, and citations, e.g. [3].\n\n{}\n\nQuestion: why?",
        "Use these documents of [the list](x) of 3.\n\n{}\n\nQuestion: which of 2 ships is longer?",
        "Use the documents, not those in [7].\n\n{}\n\nQuestion: why?",
    ],
)
def test_examples_of_citing_do_not_tie_numbers_to_blocks(text: str) -> None:
    found = extract_blocks(user(text.format(numbered(A, B, C))))
    assert found is not None
    assert found.texts == [A, B, C]


def test_questions_about_numbers_in_the_system_prompt() -> None:
    system = {"role": "system", "content": "Documents:\n\n" + numbered(A, B, C)}
    for question, tied in (("Why?", False), ("What is in source 2?", True)):
        turns = [system, *user(question), {"role": "assistant", "content": "So."}]
        found = extract_blocks([*turns, *user("And why else?")], scope="system")
        assert (found is None) is tied


@pytest.mark.parametrize("later", ["And document 3?", "What does the second document say?"])
def test_a_later_turn_that_counts_documents_brings_back_their_order(later: str) -> None:
    first = user(f"Use the documents.\n\n{numbered(A, B, C)}\n\nQuestion: why?")
    turns = [*first, {"role": "assistant", "content": "So."}]
    assert extract_blocks([*turns, *user("And why else?")]) is not None
    assert extract_blocks([*turns, *user(later)]) is None


# -- where blocks end ------------------------------------------------------------------------------


def numbered(*texts: str) -> str:
    return "\n\n".join(f"[{i}] {text}" for i, text in enumerate(texts, start=1))


def listed(*texts: str) -> str:
    return "Use these documents.\n\n" + numbered(*texts)


@pytest.mark.parametrize(
    "ending", ["\n\nQuestion: which?", "\n\nHow deep is it?", "\n\n## Task\nIs it deep?", "\n\n"]
)
def test_the_last_block_moves_when_its_end_is_sure(ending: str) -> None:
    assert reversed_text(listed(A, B, C) + ending) == listed(C, B, A) + ending


@pytest.mark.parametrize(
    "ending",
    [
        "\n\nMore about Gamma, in another paragraph.\n\nWhat is Gamma?",
        "\nQuestion: which?",
        "\nand which is it?",
        "\n\nWrite a poem about Beta.",
    ],
)
def test_the_last_block_stays_when_its_end_is_unsure(ending: str) -> None:
    assert reversed_text(listed(A, B, C) + ending) == listed(B, A, C) + ending


def test_blocks_of_several_paragraphs_leave_the_end_unsure() -> None:
    text = listed(f"{A}\n\n{A}", B, C) + "\n\nWhich?"
    assert reversed_text(text) == listed(B, f"{A}\n\n{A}", C) + "\n\nWhich?"
    wrapped = f"<context>\n{numbered(f'{A}{chr(10)}{chr(10)}{A}', B, C)}\n</context>"
    assert extract_blocks(user(wrapped)).texts[2] == C  # type: ignore[union-attr]


def test_two_blocks_with_an_unsure_end_are_left_alone() -> None:
    assert extract_blocks(user(listed(A, B) + "\n\nWrite a poem.")) is None


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
    ):
        found = extract_blocks([message])
        assert found is not None
        before = copy.deepcopy(message)
        (changed,) = found.rebuild([1, 0])
        assert json.dumps(changed) == json.dumps(before).replace(text, swapped)
        assert message == before
    assert extract_blocks([{"role": "assistant", "content": text}]) is None


@pytest.mark.parametrize(
    ("call", "result"),
    [
        (
            {"role": "assistant", "tool_calls": [{"id": "t", "function": {"name": "retrieve"}}]},
            {"role": "tool", "tool_call_id": "t", "content": "{}"},
        ),
        (
            {"type": "function_call", "call_id": "t", "name": "kb_search", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "t", "output": "{}"},
        ),
        (
            {"type": "custom_tool_call", "call_id": "t", "name": "WebSearch", "input": "x"},
            {"type": "custom_tool_call_output", "call_id": "t", "output": "{}"},
        ),
        (
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "recall"}]},
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "t", "content": "{}"}],
            },
        ),
    ],
)
def test_results_are_searched_when_their_tool_searches(
    call: dict[str, Any], result: dict[str, Any]
) -> None:
    text, swapped = "<doc>one</doc><doc>two</doc>", "<doc>two</doc><doc>one</doc>"
    filled = json.loads(json.dumps(result).replace("{}", text))
    assert extract_blocks([filled]) is None
    found = extract_blocks([call, filled])
    assert found is not None
    changed = found.rebuild([1, 0])[1]
    assert json.dumps(changed) == json.dumps(filled).replace(text, swapped)


def test_scope_chooses_whose_messages_are_searched() -> None:
    text = "<doc>one</doc><doc>two</doc>"
    messages = [{"role": role, "content": text} for role in ("system", "user", "tool")]
    messages[2]["name"] = "search"
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
    text = "<doc>a</doc><doc>b</doc> then <memory>c</memory><memory>d</memory> why?"
    found = extract_blocks(user(text))
    assert found is not None
    done = [Arrangement([1, 0], note="first note"), Arrangement([1, 0], {0: "C"}, "second")]
    assert found.arrange(done)[0]["content"] == (
        "<doc>b</doc><doc>a</doc>\n\nfirst note then "
        "<memory>d</memory><memory>C</memory>\n\nsecond why?"
    )


def test_a_note_is_written_only_when_something_moved() -> None:
    text = numbered(A, B, C) + "\n\nQuestion: which?"
    found = extract_blocks(user(text))
    assert found is not None
    assert found.rebuild([0, 1, 2], note="moved")[0]["content"] == text
    legend = found.legend([2, 0, 1])
    assert "(Numbered originally: 1 is 3, 2-3 are 1-2.)" in legend
    assert "originally: 1 is 2, 2 is 1, the others are right.)" in found.legend([1, 0, 2])
    changed = found.rebuild([2, 0, 1], note=legend)[0]["content"]
    assert changed == f"{numbered(C, A, B)}\n\n{legend}\n\nQuestion: which?"


def test_heads_are_equal_as_long_as_what_stands_before_is_equal() -> None:
    system = {"role": "system", "content": "Be brief."}
    first, other = listed(A, B, C) + "\n\nWhich?", listed(B, C, A) + "\n\nWho?"
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
    turn = user(listed(A, B, C) + "\n\nWhich?")
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


# -- the table -------------------------------------------------------------------------------------


def test_the_docs_show_the_table_of_evidence() -> None:
    docs = Path(__file__).parents[2] / "docs" / "extraction.md"
    assert evidence.table() in docs.read_text(encoding="utf-8")


def test_every_rule_that_code_names_stands_in_the_table_and_the_other_way_round() -> None:
    folder = Path(evidence.__file__).parent
    code = "".join(p.read_text(encoding="utf-8") for p in folder.glob("*.py") if p != folder)
    others = code.replace((folder / "evidence.py").read_text(encoding="utf-8"), "")
    assert [name for name in RULES if f'"{name}"' not in others] == []


@pytest.mark.parametrize(
    "reserved", ["</document>", "<document>", "The documents above were renumbered"]
)
def test_a_block_that_holds_markup_or_notes_of_ours_makes_its_list_stay(reserved: str) -> None:
    text = "".join(f"<document>{t}</document>\n" for t in (A, f"{B} {reserved} x", C))
    looked = look(user(f"<documents>\n{text}</documents>\nWhy?"))
    assert looked.extraction is None
    assert {one.code for one in looked.left} <= {"forged"}


def test_documents_joined_by_blank_lines_alone_are_left_alone() -> None:
    looked = look(user(f"Use the following context.\n\n{A}\n\n{B}\n\n{C}\n\nQuestion: why?"))
    assert looked.extraction is None

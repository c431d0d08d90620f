"""deduplicate_messages on the shapes of OpenAI and Anthropic, and on bad input."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from contextpilot.dedup.messages import deduplicate_messages

FILE = "\n".join(f"value_{number} = compute({number * 7919})" for number in range(12)) + "\n"
CHANGED = FILE.replace("value_5 =", "value_five =")
REFERENCES = (
    '[5 lines omitted, same as {} #{}: "value_0 = co"]',
    '[7 lines #{} "value_6 = co"]',
)


def shortened(ordinal: int = 1, kind: str = "tool result") -> str:
    head, tail = REFERENCES
    changed = CHANGED.split("\n")[5]
    return "\n".join([head.format(kind, ordinal), changed, tail.format(ordinal)])


def tool(content: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": "call_1", "content": content}


def result(content: Any, **block: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "use_1", "content": content, **block}


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def document(value: str, **fields: Any) -> dict[str, Any]:
    source = {"type": "text", "media_type": "text/plain", "data": value}
    return {"type": "document", "source": source, **fields}


def checked(messages: list[Any], **options: Any) -> tuple[list[Any], Any]:
    """Runs it, and checks what must hold for every input."""
    before = copy.deepcopy(messages)
    changed, report = deduplicate_messages(messages, **options)
    assert messages == before
    assert report.expand() == before
    assert report.expand(changed) == before
    assert report.chars_saved == sum(item.saved for item in report.replacements) >= 0
    return changed, report


def test_openai_strings() -> None:
    messages = [
        {"role": "system", "content": FILE},
        {"role": "user", "content": FILE},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1"}]},
        tool(FILE),
        {"role": "assistant", "content": FILE},
        tool(CHANGED),
        {"role": "function", "name": "read", "content": FILE},
    ]
    changed, report = checked(messages)
    assert changed[5]["content"] == shortened()
    assert changed[6]["content"] == (
        '[13 lines omitted, same as tool result #1: "value_0 = compute("]'
    )
    assert all(changed[at] is messages[at] for at in range(5))
    assert report.chars_before == 2 * len(FILE) + len(CHANGED)
    assert report.chars_after == sum(len(changed[at]["content"]) for at in (3, 5, 6))
    first = report.replacements[0]
    assert (first.path, first.line, first.lines, first.times) == ((5, "content"), 1, 5, 1)
    assert (first.origin.path, first.origin.line) == ((3, "content"), 1)
    assert first.chars == len(first.original) == FILE.index("\nvalue_5")


def test_openai_parts_and_responses_items() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    messages = [
        tool([text(FILE), image, text(CHANGED)]),
        {"type": "function_call_output", "call_id": "c", "output": FILE},
        {
            "type": "function_call_output",
            "call_id": "c",
            "output": [{"type": "input_text", "text": FILE}],
        },
        {"type": "reasoning", "summary": []},
    ]
    changed, _ = checked(messages)
    assert changed[0]["content"][0] is messages[0]["content"][0]
    assert changed[0]["content"][1] is image
    assert changed[0]["content"][2]["text"].startswith('[5 lines omitted, same as above: "')
    assert changed[1]["output"].startswith("[13 lines omitted, same as tool result #1")
    assert changed[2]["output"][0]["text"].startswith("[13 lines omitted")


def test_anthropic_tool_results() -> None:
    image = {"type": "image", "source": {"type": "base64", "data": "AAAA"}}
    messages = [
        {
            "role": "user",
            "content": [text(FILE), result(FILE, cache_control={"type": "ephemeral"})],
        },
        {"role": "assistant", "content": [{"type": "tool_use", "id": "u", "input": {"a": FILE}}]},
        {"role": "user", "content": [result([text(CHANGED), image]), text(FILE)]},
        {"role": "user", "content": [result(None), result([]), {"type": "tool_result"}]},
        {"role": "user", "content": [result([document(FILE)])]},
    ]
    changed, _ = checked(messages)
    assert changed[2]["content"][0]["content"] == [text(shortened()), image]
    assert changed[2]["content"][1] is messages[2]["content"][1]
    assert changed[4]["content"][0]["content"][0]["source"]["data"].startswith("[13 lines omitted")
    assert all(changed[at] is messages[at] for at in (0, 1, 3))


def test_anthropic_documents() -> None:
    searched = {"type": "search_result", "source": "s", "title": "t", "content": [text(FILE)]}
    parts = {"type": "document", "source": {"type": "content", "content": [text(FILE)]}}
    scan = {"type": "document", "source": {"type": "base64", "data": FILE}}
    linked = {"type": "document", "source": {"type": "url", "url": "u"}}
    blocks = [document(FILE), document(CHANGED), searched, parts, scan, linked, text(FILE)]
    changed, _ = checked([{"role": "user", "content": blocks}])
    new = changed[0]["content"]
    assert new[1]["source"]["data"] == shortened(kind="document")
    assert new[2]["content"][0]["text"].startswith("[13 lines omitted, same as document #1")
    assert new[3]["source"]["content"][0]["text"].startswith("[13 lines omitted")
    assert new[4:] == blocks[4:]


def test_cited_documents_are_read_only() -> None:
    cited = document(FILE, citations={"enabled": True})
    blocks = [cited, cited, document(FILE, citations={"enabled": False})]
    changed, _ = checked([{"role": "user", "content": blocks}])
    assert changed[0]["content"][:2] == [cited, cited]
    assert changed[0]["content"][2]["source"]["data"].startswith("[13 lines omitted")


def test_json_keeps_its_structure_and_spelling() -> None:
    first = {"path": "a.py", "content": FILE, "size": 12, "n": [1.50, None, True]}
    second = {"path": "b.py", "content": CHANGED, FILE: "key", "size": 10**400}
    messages = [tool(json.dumps(first)), tool(json.dumps(second, indent=3)), tool(FILE)]
    changed, _ = checked(messages)
    parsed = json.loads(changed[1]["content"], parse_int=float)
    assert list(parsed) == list(second)
    assert parsed["content"] == shortened()
    raw = json.dumps(second, indent=3)
    assert changed[1]["content"] == raw.replace(json.dumps(CHANGED), json.dumps(shortened()))
    assert changed[2]["content"].startswith("[13 lines omitted")


def test_json_lines_stay_json_lines() -> None:
    log = "\n".join(json.dumps({"id": at, "text": FILE}) for at in range(3)) + "\n"
    changed, _ = checked([tool(log)])
    records = [json.loads(line) for line in changed[0]["content"].splitlines()]
    assert [record["id"] for record in records] == [0, 1, 2]
    assert records[1]["text"].startswith("[13 lines omitted, same as above")


@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_json_escapes(ensure_ascii: bool) -> None:
    value = "\n".join(f'C:\\new\\{at}\t"quoted" é 😀 line number {at}' for at in range(9))
    record = json.dumps({"value": value}, ensure_ascii=ensure_ascii)
    changed, report = checked([tool(record), tool(record), tool(value)])
    assert json.loads(changed[1]["content"])["value"].startswith("[9 lines omitted")
    assert changed[1]["content"].isascii() is ensure_ascii
    assert len(report.replacements) == 2


def test_json_that_is_too_deep_or_oddly_escaped_is_left() -> None:
    deep = "[" * 100_000 + json.dumps(FILE) + "]" * 100_000
    odd = json.dumps(FILE).replace("\\n", "\\u000a")
    messages = [tool(deep), tool(deep), tool(odd), tool(odd)]
    changed, _ = checked(messages)
    assert changed[:2] == messages[:2]
    assert [json.loads(message["content"]) for message in changed[2:]] == [FILE, FILE]


def test_line_numbers_do_not_count() -> None:
    code = FILE.rstrip("\n").split("\n")
    cat = "\n".join(f"{number:6}\t{line}" for number, line in enumerate(code, 1))
    arrow = "\n".join(f"{number:6}→{line}" for number, line in enumerate(["import x", *code], 1))
    changed, report = checked([tool(FILE), tool(cat), tool(f"<file>\n{arrow}\n</file>")])
    assert changed[1]["content"] == (
        '[12 lines omitted, same as tool result #1: "1\tvalue_0 = compute(0)"]'
    )
    assert changed[2]["content"].split("\n") == [
        "<file>",
        "     1→import x",
        '[12 lines omitted, same as tool result #1: "2→value_0 = compute(0)"]',
        "</file>",
    ]
    assert report.replacements[1].line == 3


def test_years_are_not_line_numbers() -> None:
    first = "2020: revenue rose by a lot, as it did in many years before this one\n2022: it fell"
    second = first.replace("2020", "2021").replace("2022", "2024")
    changed, _ = checked([tool(first), tool(second)])
    assert changed[1]["content"] == second


def test_equal_lines_are_counted() -> None:
    changed, _ = checked([tool("the same line again\n" * 10_000)])
    assert changed[0]["content"] == (
        "the same line again\n" * 3
        + '[3 lines x3332 omitted, same as above: "the same line again"]\n'
        + "the same line again\n"
    )


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n", "\x0b", "\u2028"])
def test_line_ends(end: str) -> None:
    value = end.join(f"line number {at} of the text" for at in range(20))
    changed, _ = checked([tool(value), tool(value), tool(value + end), tool("")])
    assert len(changed[1]["content"]) < 100
    assert "\n" not in changed[1]["content"]


def test_a_second_pass_finds_nothing_more() -> None:
    messages = [tool(FILE), tool(CHANGED), tool(CHANGED), tool(json.dumps([CHANGED]))]
    once, first = checked(messages)
    twice, second = checked(once)
    assert first.replacements
    assert twice == once
    assert not second.replacements


def test_the_outcome_for_a_prefix_never_changes() -> None:
    messages = [tool(FILE), tool(CHANGED), tool(CHANGED + FILE), tool(FILE)]
    whole, _ = checked(messages)
    for size in range(len(messages)):
        assert checked(messages[:size])[0] == whole[:size]


def test_expand_takes_a_longer_conversation_and_refuses_another() -> None:
    messages = [tool(FILE), tool(FILE)]
    changed, report = checked(messages)
    later = [{"role": "user", "content": "go on"}]
    assert report.expand(json.loads(json.dumps(changed)) + later) == messages + later
    with pytest.raises(ValueError, match=r"messages.*messages\[1\]\['content'\]"):
        report.expand(changed[:1])
    with pytest.raises(ValueError, match=r"messages\[1\]\['content'\] has no reference"):
        report.expand(messages)


def test_containers_keep_their_types() -> None:
    messages = (MappingProxyType(tool((text(FILE), text(FILE)))), SimpleNamespace(role="assistant"))
    changed, report = deduplicate_messages(messages)
    assert isinstance(changed[0]["content"], tuple)
    assert changed[1] is messages[1]
    assert report.expand() == [dict(messages[0]), messages[1]]


def test_nothing_to_do() -> None:
    messages = [tool(""), tool(None), tool([]), tool("short"), {"role": "user", "content": None}]
    changed, report = checked(messages)
    assert all(new is old for new, old in zip(changed, messages, strict=True))
    assert checked([]) == (
        [],
        dataclasses.replace(report, chars_before=0, chars_after=0, messages=()),
    )


def test_min_chars() -> None:
    pair = [tool("x" * 100 + "\nalpha"), tool("x" * 100 + "\nbeta")]
    assert checked(pair, min_chars=100)[1].chars_saved > 0
    assert checked(pair, min_chars=101)[1].chars_saved == 0
    assert checked(pair, min_chars=10**30)[1].chars_saved == 0


@pytest.mark.parametrize(
    ("messages", "options", "error", "names"),
    [
        ("text", {}, TypeError, "messages must be a list"),
        (None, {}, TypeError, "messages must be a list"),
        ({"role": "tool"}, {}, TypeError, "messages must be a list"),
        ([tool(FILE), "text"], {}, TypeError, r"messages\[1\] must be a mapping"),
        ([None], {}, TypeError, r"messages\[0\] must be a mapping"),
        ([tool(3)], {}, TypeError, r"messages\[0\]\['content'\] must be a string"),
        ([tool([7])], {}, TypeError, r"messages\[0\]\['content'\]\[0\] must be"),
        ([tool([text(b"x")])], {}, TypeError, r"messages\[0\]\['content'\]\[0\]\['text'\]"),
        ([], {"min_chars": 0}, ValueError, "min_chars must be at least 1"),
        ([], {"min_chars": True}, TypeError, "min_chars must be an integer"),
        ([], {"min_chars": 48.0}, TypeError, "min_chars must be an integer"),
        ([], {"min_chars": None}, TypeError, "min_chars must be an integer"),
    ],
)
def test_bad_input(messages: Any, options: Any, error: type[Exception], names: str) -> None:
    with pytest.raises(error, match=names):
        deduplicate_messages(messages, **options)


SCRIPT = """
import json, sys
from contextpilot.dedup.messages import deduplicate_messages
print(json.dumps(deduplicate_messages(json.load(sys.stdin))[0]))
"""


def test_every_process_gives_the_same_bytes() -> None:
    messages = json.dumps([tool(FILE), tool(CHANGED), tool(json.dumps({"a": CHANGED})), tool(FILE)])
    digests = set()
    for seed in ("0", "1", "4711"):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            input=messages.encode(),
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        digests.add(hashlib.sha256(done.stdout).hexdigest())
    assert len(digests) == 1

"""What holds for every prompt, on generated ones."""

from __future__ import annotations

import copy
import json
import re
from itertools import chain
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from contextpilot.dedup.messages import deduplicate_messages
from contextpilot.dedup.report import Replacement

PLAIN = [
    "",
    "}",
    "    return None",
    "The Supplier shall deliver the goods on the day agreed.",
    "Grüße aus Köln — 你好，世界 😀",
    'a "quoted" word and a back\\slash\\n',
    "tab\there, then\r",
    "lone \r return, form\x0cfeed, \u2028 separator",
    "x" * 70,
    '[3 lines #1 "x"]',
]
NUMBER = re.compile(r"^[ \t]*L?\d+(?:\t|→| ?\||:|-) ?")
STYLES = ["{:6}\t{}", "{}→{}", "{}: {}", "L{}: {}", "{}|{}"]

chunks = st.sampled_from([PLAIN[:5], PLAIN[2:7], PLAIN[5:9], PLAIN[:2]])
single = (st.sampled_from(PLAIN) | st.text(max_size=8)).map(lambda line: [line])
line_lists = st.lists(chunks | single, max_size=5).map(
    lambda found: list(chain.from_iterable(found))
)
plain_texts = line_lists.map("\n".join)


@st.composite
def numbered_texts(draw: st.DrawFn) -> str:
    style, first = draw(st.sampled_from(STYLES)), draw(st.integers(1, 1000))
    lines = draw(line_lists)
    return "\n".join(style.format(number, line) for number, line in enumerate(lines, first))


json_values = st.recursive(
    st.none() | st.integers() | plain_texts,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
json_texts = st.builds(
    json.dumps, json_values, ensure_ascii=st.booleans(), indent=st.none() | st.integers(0, 3)
)
texts = plain_texts | numbered_texts() | json_texts


def tool(content: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": "c", "content": content}


def in_blocks(value: str) -> dict[str, Any]:
    return {
        "role": "user",
        "content": [{"type": "tool_result", "content": value}, {"type": "text", "text": value}],
    }


def in_parts(value: str) -> dict[str, Any]:
    image = {"type": "image_url", "image_url": {"url": value}}
    return tool([image, {"type": "text", "text": value}])


def spoken(role: str) -> Any:
    return lambda value: {"role": role, "content": value}


def observed(value: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": f"Observation:\n{value}"}]}


def named(name: str) -> Any:
    return lambda value: {"role": "tool", "name": name, "content": value}


messages_of = st.sampled_from(
    [
        tool,
        tool,
        in_blocks,
        in_parts,
        observed,
        named("fetch"),
        named("read_file"),
        spoken("user"),
        spoken("system"),
        spoken("assistant"),
    ]
)
prompts = st.lists(st.builds(lambda make, value: make(value), messages_of, texts), max_size=7)
thresholds = st.sampled_from([1, 8, 48, 200])


@given(prompts, thresholds)
def test_expand_restores_the_original(messages: list[Any], min_chars: int) -> None:
    before = copy.deepcopy(messages)
    changed, report = deduplicate_messages(messages, min_chars=min_chars)
    assert messages == before
    assert report.expand() == before
    assert all(item.saved > 0 for item in report.replacements)
    again, second = deduplicate_messages(changed, min_chars=min_chars)
    assert report.expand(second.expand(again)) == before


def at(messages: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        messages = messages[step]
    return messages


def blanked(messages: list[Any], paths: set[tuple[Any, ...]]) -> list[Any]:
    messages = copy.deepcopy(messages)
    for *holder, last in paths:
        at(messages, tuple(holder))[last] = None
    return messages


@given(prompts, thresholds)
def test_only_eligible_texts_change(messages: list[Any], min_chars: int) -> None:
    changed, report = deduplicate_messages(messages, min_chars=min_chars)
    paths = {item.path for item in report.replacements}
    assert blanked(changed, paths) == blanked(messages, paths)
    for index, *rest in paths:
        holder = str(at(messages, (index, *rest[:-1])))
        is_result = "tool_result" in holder or "Observation:" in holder
        assert messages[index]["role"] == "tool" or is_result
    for index, message in enumerate(messages):
        if index not in {path[0] for path in paths}:
            assert changed[index] is message


def values(text: str) -> list[str]:
    """The text, or if it is JSON all its string values."""
    try:
        node = json.loads(text)
    except ValueError:
        return [text]
    found, stack = [], [node]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            found.append(node)
        elif isinstance(node, list | dict):
            stack.extend(node if isinstance(node, list) else node.values())
    return found


def bare(text: str) -> str:
    return "\n".join(NUMBER.sub("", line).strip(" ") for line in text.split("\n"))


def as_read(messages: list[Any], item: Replacement) -> str:
    """What was replaced as its reader sees it: of a string in JSON without escapes."""
    holder = at(messages, item.path)
    is_json = values(holder) != [holder] and not item.reference.startswith("[Identical")
    return str(json.loads(f'"{item.original}"')) if is_json else item.original


@given(prompts, thresholds)
def test_referents_stand_in_the_final_prompt(messages: list[Any], min_chars: int) -> None:
    changed, report = deduplicate_messages(messages, min_chars=min_chars)
    for item in report.replacements:
        run = bare("\n".join(as_read(messages, item).split("\n")[: item.lines]))
        source = at(changed, item.origin.path)
        kept = [f"\n{bare(value)}\n" for value in [source, *values(source)]]
        assert any(f"\n{run}\n" in value for value in kept)
        assert item.origin.path < item.path


QUOTED = re.compile(r'lines?\b[^"\]]*"([^"]+)"')


def spoken_texts(message: dict[str, Any]) -> list[str]:
    content = message["content"]
    if isinstance(content, str):
        return [content]
    found = []
    for part in content or []:
        held = part.get("text", part.get("content"))
        found += [held] if isinstance(held, str) else []
    return found


@given(prompts, thresholds)
def test_every_quotation_begins_one_line_before_it(messages: list[Any], min_chars: int) -> None:
    changed, report = deduplicate_messages(messages, min_chars=min_chars)
    ours = {item.reference for item in report.replacements}
    before: list[str] = []
    for line in (line for m in changed for text in spoken_texts(m) for line in text.split("\n")):
        for quoted in QUOTED.findall(line) if line in ours else ():
            assert sum(other.lstrip().startswith(quoted) for other in before) == 1
        before.append(line)


NUMBERED = re.compile(r": lines? (\d+)(?:-(\d+))? of ([a-z ]+) #(\d+)\]")


@given(prompts, thresholds)
def test_numbered_lines_are_those_that_were_there(messages: list[Any], min_chars: int) -> None:
    changed, report = deduplicate_messages(messages, min_chars=min_chars)
    for item in report.replacements:
        match = NUMBERED.search(item.reference)
        if match is not None:
            first, last = int(match[1]), int(match[2] or match[1])
            source = at(changed, item.origin.path)
            [counted] = [text for text in values(source) if "\n" in text] or [source]
            lines = counted.split("\n")[first - 1 : last]
            assert bare("\n".join(lines)) == bare(as_read(messages, item))
            assert (match[3], int(match[4])) == (item.origin.kind, item.origin.ordinal)


@given(texts)
def test_a_first_reading_arrives_as_it_was(value: str) -> None:
    for message in (tool(value), observed(value), tool(f"{value}\n{value}")):
        assert deduplicate_messages([message], min_chars=1)[0] == [message]


def skeleton(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: skeleton(value) for key, value in node.items()}
    if isinstance(node, list):
        return [skeleton(value) for value in node]
    return "" if isinstance(node, str) else node


@given(st.lists(json_texts, max_size=6), thresholds)
def test_json_parses_to_the_same_structure(contents: list[str], min_chars: int) -> None:
    contents = [content for content in contents if content[0] in '{["']
    changed, _ = deduplicate_messages([tool(content) for content in contents], min_chars=min_chars)
    for old, new in zip(contents, changed, strict=True):
        if new["content"].startswith("[Identical: "):
            assert old in contents[: contents.index(old) + 1]
            continue
        assert skeleton(json.loads(new["content"])) == skeleton(json.loads(old))


@given(prompts, thresholds)
def test_later_messages_change_nothing_before(messages: list[Any], min_chars: int) -> None:
    whole, _ = deduplicate_messages(messages, min_chars=min_chars)
    for size in range(len(messages)):
        assert deduplicate_messages(messages[:size], min_chars=min_chars)[0] == whole[:size]


@settings(max_examples=300)
@given(st.lists(plain_texts, max_size=6), thresholds)
def test_a_second_pass_saves_nothing(contents: list[str], min_chars: int) -> None:
    once, _ = deduplicate_messages([tool(content) for content in contents], min_chars=min_chars)
    _, second = deduplicate_messages(once, min_chars=min_chars)
    assert second.chars_saved == 0

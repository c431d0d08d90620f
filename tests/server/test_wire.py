"""Splicing JSON: what changed is changed, all else stays byte for byte."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextpilot.engines.usage import UsageReader
from contextpilot.prompt.apis.splice import splice
from contextpilot.server.proxy.outgoing import with_members

LEAVES = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=5)


@given(OBJECTS, st.sampled_from([None, 1]), st.booleans())
def test_the_same_value_is_the_same_text(value: Any, indent: Any, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert splice(text, json.loads(text), value) == text
    assert json.loads(splice(text, json.loads(text), copy.deepcopy(value))) == value


@pytest.mark.slow
@given(OBJECTS, OBJECTS, st.sampled_from([None, 2]))
def test_any_change_is_made(old: Any, new: Any, indent: Any) -> None:
    text = json.dumps(old, indent=indent)
    assert json.loads(splice(text, old, new)) == new


@pytest.mark.slow
@given(OBJECTS, st.text(), VALUES)
def test_members_are_added(value: Any, name: str, member: Any) -> None:
    value.pop(name, None)
    text = json.dumps(value).encode()
    assert json.loads(with_members(text + b" ", {name: member})) == {**value, name: member}


def test_untouched_parts_keep_their_bytes() -> None:
    text = '{"a" : 1.0,"m":[ {"c":"x", "k" :1e2}, {"c":"\\u0041"} ],\n"z":1E400, "a": 2 }\n'
    old = json.loads(text)
    new = {**old, "m": [{**old["m"][0], "c": "y"}, old["m"][1]]}
    assert splice(text, old, new) == text.replace('"x"', '"y"')
    del new["m"]
    assert splice(text, old, new) == '{"a" : 1.0,\n"z":1E400, "a": 2 }\n'
    assert splice(text, old, {"z": old["z"], "n": 1}) == '{\n"z":1E400,"n":1 }\n'


def test_lone_surrogates_survive() -> None:
    text = '{"a": "\\ud800", "b": 1}'
    changed = splice(text, json.loads(text), {"a": "\ud800!", "b": 1})
    assert json.loads(changed) == {"a": "\ud800!", "b": 1}
    changed.encode()


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 60), st.booleans())
def test_usage_is_found_however_it_is_cut(
    prompt: int, cached: int, size: int, spaced: bool
) -> None:
    content = {
        "choices": [{"text": 'a "prompt_tokens": 3, "cached_tokens":4' * 3}],
        "usage": {"prompt_tokens": prompt, "prompt_tokens_details": {"cached_tokens": cached}},
    }
    text = json.dumps(content, separators=None if spaced else (",", ":")).encode()
    reader = UsageReader()
    for at in range(0, len(text), size):
        reader.feed(text[at : at + size])
    assert reader.result() == (prompt, min(prompt, cached))


@pytest.mark.parametrize("count", ["1e308", "1.5", "-5", '"5"', "9007199254740993000"])
def test_counts_that_are_none_are_not_read(count: str) -> None:
    reader = UsageReader()
    reader.feed(b'{"usage": {"prompt_tokens": %b}}' % count.encode())
    assert reader.result() == (None, None)

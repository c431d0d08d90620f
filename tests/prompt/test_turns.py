"""Growing conversations: each prompt that is written extends the one before, whatever it holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contextpilot.block import BlockReader
from contextpilot.namespace import Namespaces
from contextpilot.options import Options
from contextpilot.planning import LocalPlanning
from contextpilot.prompt.apis.paths import shape_of
from contextpilot.prompt.conversation.prepare import RewritePreparer
from contextpilot.prompt.conversation.written_orders import WrittenOrders

NAMES = "abcdefg"
DOCUMENTS = [f"Facts about {name}.\n" + f"{name} is old and far away.\n" * 12 for name in NAMES]
FILES = ["\n".join(f"{name}_{at} = compute({at * 7919})" for at in range(14)) for name in "pqr"]

Turn = tuple[str, Any]


def documents(order: Sequence[int]) -> str:
    """Documents as retrieval writes them."""
    return "".join(f"<document>\n{DOCUMENTS[at]}</document>\n" for at in order)


def edited(file: int, line: int) -> str:
    lines = FILES[file].split("\n")
    return "\n".join([*lines[:line], "changed = True", *lines[line + 1 :]])


ORDERS = st.lists(st.integers(0, len(DOCUMENTS) - 1), min_size=2, max_size=5, unique=True)
TURNS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), ORDERS),
        st.tuples(st.just("search"), ORDERS),
        st.tuples(st.just("read"), st.tuples(st.integers(0, 2), st.integers(0, 13))),
        st.tuples(st.just("say"), st.sampled_from([*FILES, "well", "and then?"])),
    ),
    min_size=2,
    max_size=6,
)


def openai(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "system", "content": "Be brief."}]
    for number, (kind, what) in enumerate(turns):
        if kind == "ask":
            messages.append({"role": "user", "content": f"{documents(what)}\nwhy {number}?"})
        elif kind == "say":
            messages.append({"role": "user", "content": what})
        else:
            text = documents(what) if kind == "search" else edited(*what)
            function = {"name": kind, "arguments": "{}"}
            call = {"id": f"c{number}", "type": "function", "function": function}
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
            messages.append({"role": "tool", "tool_call_id": f"c{number}", "content": text})
        messages.append({"role": "assistant", "content": f"answer {number}"})
    return messages[:-1]


def anthropic(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """With a cache mark on the newest message, as clients move it."""
    messages: list[dict[str, Any]] = []
    for message in openai(turns)[1:]:
        if message["role"] == "tool":
            part = {"type": "tool_result", "tool_use_id": message["tool_call_id"]}
            content: Any = [part | {"content": message["content"]}]
        elif message.get("tool_calls"):
            call = message["tool_calls"][0]
            name = call["function"]["name"]
            content = [{"type": "tool_use", "id": call["id"], "name": name, "input": {}}]
        else:
            content = [{"type": "text", "text": message["content"]}]
        role = "assistant" if message["role"] == "assistant" else "user"
        messages.append({"role": role, "content": content})
    last = messages[-1]["content"]
    messages[-1] = messages[-1] | {
        "content": [*last[:-1], last[-1] | {"cache_control": {"type": "ephemeral"}}]
    }
    return messages


def unmarked(messages: Sequence[Any]) -> Any:
    text = json.dumps(messages)
    return json.loads(text.replace(', "cache_control": {"type": "ephemeral"}', ""))


class Session:
    """One namespace."""

    def __init__(self, path: str) -> None:
        self._shape = shape_of("POST", path)
        self._preparer = RewritePreparer(BlockReader(), WrittenOrders())
        self._planning = LocalPlanning(Namespaces(10_000, 64, 4))

    def send(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        assert self._shape is not None
        body = {"model": "m", "messages": messages}
        rewrite, _ = self._preparer.prepare(self._shape, body, Options(), "one")
        if rewrite is None:
            return messages
        (planned,) = self._planning.run(rewrite.job("one"))
        written: list[dict[str, Any]] = rewrite.write(planned).body["messages"]
        return written


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "path"), [(openai, "/v1/chat/completions"), (anthropic, "/v1/messages")]
)
@settings(max_examples=60)
@given(before=st.lists(ORDERS, max_size=3), turns=TURNS)
def test_each_prompt_extends_the_one_before(
    make: Callable[[Sequence[Turn]], list[dict[str, Any]]],
    path: str,
    before: list[list[int]],
    turns: list[Turn],
) -> None:
    session = Session(path)
    for order in before:  # of other conversations, so that there is something to hit
        session.send(make([("ask", order)]))
    written: list[dict[str, Any]] = []
    for number in range(1, len(turns) + 1):
        sent = make(turns[:number])
        now = unmarked(session.send(sent))
        assert now[: len(written)] == written
        assert len(now) == len(sent)
        assert unmarked(session.send(sent)) == now
        written = now

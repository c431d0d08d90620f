"""Hermes' plugin, as Hermes calls it: in all three APIs, and where something fails."""

from __future__ import annotations

import copy
import importlib
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from contextpilot import ContextPilot
from contextpilot.agents.plugins import hermes
from contextpilot.agents.plugins.hermes import RequestRewriting

FILE = "\n".join(f"{at}|value_{at} = compute({at * 7919})" for at in range(40))


def chat(readings: int) -> dict[str, Any]:
    messages: list[Any] = [{"role": "system", "content": "Be brief."}]
    for number in range(readings):
        function = {"name": "read_file", "arguments": json.dumps({"path": "a.py"})}
        call = {"id": f"c{number}", "type": "function", "function": function}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"c{number}", "content": FILE})
    return {"model": "m", "messages": messages, "tools": [{"type": "function"}], "timeout": 9}


def claude(readings: int) -> dict[str, Any]:
    messages: list[Any] = [{"role": "user", "content": "Read it."}]
    for number in range(readings):
        use = {"type": "tool_use", "id": f"t{number}", "name": "read_file", "input": {}}
        result = {"type": "tool_result", "tool_use_id": f"t{number}", "content": FILE}
        messages.append({"role": "assistant", "content": [use]})
        messages.append({"role": "user", "content": [result]})
    return {"model": "m", "system": [{"type": "text", "text": "Be brief."}], "messages": messages}


def responses(readings: int) -> dict[str, Any]:
    items: list[Any] = [{"role": "user", "content": "Read it."}]
    for number in range(readings):
        call = {"type": "function_call", "name": "read_file", "arguments": "{}"}
        items.append({**call, "call_id": f"c{number}"})
        items.append({"type": "function_call_output", "call_id": f"c{number}", "output": FILE})
    return {"model": "m", "instructions": "Be brief.", "input": items}


def texts(request: dict[str, Any]) -> str:
    return json.dumps(request)


@pytest.mark.parametrize("request_of", [chat, claude, responses])
def test_each_request_extends_the_last(request_of: Callable[[int], dict[str, Any]]) -> None:
    rewriting = RequestRewriting(ContextPilot(index_url=""))
    name = "input" if request_of is responses else "messages"
    before: list[Any] = []
    for readings in range(1, 5):
        request = request_of(readings)
        given = copy.deepcopy(request)
        answer = rewriting(request=request, session_id="s", api_mode="chat_completions")
        assert request == given
        sent = answer["request"] if answer else request
        assert (answer is None) == (readings == 1)
        assert sent[name][: len(before)] == before
        assert texts(sent).count("value_39") == 1, "the first reading, whole"
        assert {key: value for key, value in sent.items() if key != name} == {
            key: value for key, value in given.items() if key != name
        }
        assert type(sent[name]) is list
        before = sent[name]
    assert rewriting.status().startswith("ContextPilot: 3 of 4 prompts rewritten")


def test_whatever_fails_leaves_the_request(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(ContextPilot):
        def rewrite(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("out of order")

    rewriting = RequestRewriting(Broken(index_url=""))
    with caplog.at_level(logging.WARNING):
        for request in (chat(2), chat(3), {"prompt": "text"}, {"messages": "text"}, {}):
            assert rewriting(request=request) is None
    (told,) = caplog.records
    assert "out of order" in told.getMessage()
    whole = RequestRewriting(ContextPilot(index_url=""))
    assert whole(request={"messages": [3]}) is None


def test_hermes_finds_and_registers_it(caplog: pytest.LogCaptureFixture) -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8")
    declared = re.search(r'"hermes_agent.plugins"\]\ncontextpilot = "(.+)"', project)
    assert declared is not None
    assert importlib.import_module(declared[1]) is hermes
    made: dict[str, Any] = {}
    host = SimpleNamespace(
        register_middleware=made.__setitem__,
        register_command=lambda name, handler, description="": made.update({name: handler}),
    )
    hermes.register(host)
    assert isinstance(made["llm_request"], RequestRewriting)
    assert "0 of 0" in made["contextpilot"]("")
    with caplog.at_level(logging.WARNING):
        hermes.register(SimpleNamespace())  # type: ignore[arg-type]
    assert "no middleware" in caplog.text

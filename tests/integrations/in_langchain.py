"""What LangChain's users see; run by test_stacks.py where LangChain is."""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from guides import run_blocks
from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from pydantic import BaseModel

import contextpilot as cp
from contextpilot.integrations.langchain import (
    ContextPilotCompressor,
    ContextPilotMiddleware,
    optimize_runnable,
)


def text(number: int) -> str:
    words = random.Random(number)
    return f"Passage {number}. " + " ".join(f"word{words.randrange(999)}" for _ in range(50))


def documents(*numbers: int) -> list[Document]:
    return [
        Document(page_content=text(n), id=f"d{n}", metadata={"source": f"{n}.txt", "score": 1 / n})
        for n in numbers
    ]


def test_the_compressor_keeps_documents_and_shares_a_prefix() -> None:
    compressor = ContextPilotCompressor()
    first = compressor.compress_documents(documents(1, 2, 3, 4), "first?")
    given = documents(3, 9, 1, 2)
    second = compressor.compress_documents(given, "second?")
    assert [d.id for d in first] == ["d1", "d2", "d3", "d4"]
    assert [d.id for d in second[:3]] == ["d1", "d2", "d3"]
    assert sorted(d.id for d in second) == sorted(d.id for d in given)
    assert [given[d.metadata["original_rank"] - 1].id for d in second] == [d.id for d in second]
    assert all("original_rank" not in d.metadata for d in given)
    assert all(d.metadata["source"] == f"{d.id[1:]}.txt" for d in second)
    assert compressor.compress_documents([], "none?") == []


def test_compressors_share_a_pilot_and_work_from_coroutines() -> None:
    pilot = cp.ContextPilot()
    ContextPilotCompressor(pilot=pilot).transform_documents(documents(1, 2, 3))
    other = ContextPilotCompressor(pilot=pilot)
    second = asyncio.run(other.acompress_documents(documents(3, 2, 1), "q"))
    assert [d.id for d in second] == ["d1", "d2", "d3"]


def test_the_runnable_writes_messages() -> None:
    chain = optimize_runnable()
    chain.invoke({"context": documents(1, 2, 3), "question": "first?"})
    messages = chain.invoke({"context": documents(3, 1, 2), "question": "second?"})
    assert all(isinstance(message, BaseMessage) for message in messages)
    last = str(messages[-1].content)
    assert last.index(text(1)) < last.index(text(2)) < last.index(text(3)) < last.index("second?")


class Scripted(BaseChatModel):
    """Reads the file twice, then answers; keeps what it was sent."""

    sent: list[list[BaseMessage]]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self.sent.append(messages)
        calls = [{"name": "read_file", "args": {"path": "a.py"}, "id": f"call{len(self.sent)}"}]
        answer = AIMessage("", tool_calls=calls) if len(self.sent) < 4 else AIMessage("done")
        return ChatResult(generations=[ChatGeneration(message=answer)])


@tool
def read_file(path: str) -> str:
    """Read a file."""
    return "\n".join(f"def step_{n}(value):\n    return value * {n} + {n * n}" for n in range(60))


@pytest.mark.parametrize("is_async", [False, True])
def test_the_middleware_rewrites_what_is_sent_and_nothing_else(is_async: bool) -> None:
    model, middleware = Scripted(sent=[]), ContextPilotMiddleware()
    agent = create_agent(model, [read_file], middleware=[middleware], system_prompt="Be brief.")
    given = {"messages": [HumanMessage("Read a.py until you know it.")]}
    result = asyncio.run(agent.ainvoke(given)) if is_async else agent.invoke(given)
    kept = [m.content for m in result["messages"] if isinstance(m, ToolMessage)]
    assert len(kept) == 3
    assert len(set(kept)) == 1  # the agent's own state is whole
    sent = [m for m in model.sent[-1] if isinstance(m, ToolMessage)]
    assert sent[0].content == kept[0]
    assert all(len(str(m.content)) < len(kept[0]) // 4 for m in sent[1:])
    assert [m.tool_call_id for m in sent] == ["call1", "call2", "call3"]
    assert middleware.saved_chars > len(kept[0])
    for before, after in pairwise(model.sent):
        assert [m.content for m in after[: len(before)]] == [m.content for m in before]


@tool
def choose_document(index: int) -> str:
    """Choose the document that answers the question by its index."""
    return "chosen"


class Scores(BaseModel):
    """One score for each document, in their order."""

    scores: list[int]


class Fact(BaseModel):
    """An answer in which nothing counts documents."""

    fact: str


@dataclass
class Strategy:
    """What LangChain makes of an answer's form."""

    schema: Any


class Request:
    """What the middleware reads of a model request."""

    def __init__(self, *numbers: int, tools: Any = (), response_format: Any = None) -> None:
        shown = "\n".join(f"<document>{text(n)}</document>" for n in numbers)
        asked = f"Use the following retrieved documents.\n{shown}\n\nWhat is a heron?"
        self.messages = [HumanMessage(asked)]
        self.system_message = None
        self.tools, self.response_format = list(tools), response_format

    def override(self, messages: list[BaseMessage]) -> list[BaseMessage]:
        return messages


@pytest.mark.parametrize(
    ("more", "moves"),
    [
        ({}, True),
        ({"tools": [choose_document]}, False),
        ({"response_format": Scores}, False),
        ({"response_format": Strategy(Scores)}, False),
        ({"response_format": Fact}, True),
        ({"response_format": Strategy(Fact.model_json_schema())}, True),
    ],
)
def test_documents_stay_where_the_answer_may_count_them(more: Any, moves: bool) -> None:
    middleware = ContextPilotMiddleware()
    middleware.wrap_model_call(Request(1, 2, 3, 4, **more), lambda given: given)
    again = Request(4, 3, 2, 1, **more)
    (sent,) = middleware.wrap_model_call(again, lambda given: given)
    assert (sent.content != again.messages[0].content) == moves


def test_messages_that_have_no_openai_form_of_their_own_go_as_they_are() -> None:
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "x"}
    messages = [HumanMessage([result, {"type": "text", "text": "And now?"}])]

    request = Request()
    request.messages = messages
    assert ContextPilotMiddleware().wrap_model_call(request, lambda given: given) is request


def test_the_guides_code_runs() -> None:
    run_blocks("langchain.md")


def test_the_example_hits_more_than_twice_as_often() -> None:
    example = Path(__file__).resolve().parents[2] / "examples" / "langchain_retrieval.py"
    run = subprocess.run([sys.executable, example], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    given, planned = map(float, re.findall(r"([\d.]+)%", run.stdout))
    assert planned > 2 * given > 0

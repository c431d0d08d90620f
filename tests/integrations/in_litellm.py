"""What LiteLLM's users see; run by test_stacks.py where LiteLLM is."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted_engine import Engine, scripted_engine

import contextpilot as cp

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

import litellm_client

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or it asks the network as it is imported
import litellm

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "litellm.md"


@pytest.fixture
def engine() -> Iterator[Engine]:
    with scripted_engine() as told:
        yield told


@pytest.fixture
def guide(engine: Engine) -> dict[str, Any]:
    """What the guide defines, after it ran."""
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.replace("http://127.0.0.1:8000/v1", engine.url), names)
    return names


def test_planned_messages_arrive_with_their_ids(engine: Engine, guide: dict[str, Any]) -> None:
    done = guide["done"]
    assert done.order == (3, 2, 1, 0)
    assert done.live_tokens > done.total_tokens // 2
    (_, first), (name, second) = engine.seen
    assert name == done.request_id
    assert second["messages"] == done.messages
    own, shared = first["messages"][0]["content"], second["messages"][0]["content"]
    assert shared.startswith(own[: own.index("\nWhere")])
    assert {*second} == {"model", "messages"}


def test_streams_and_coroutines(engine: Engine, guide: dict[str, Any]) -> None:
    place = {"model": "hosted_vllm/m", "api_base": engine.url}
    stream, done = guide["complete"]([guide["question"]], stream=True, **place)
    assert list(stream)
    assert engine.seen[-1][0] == done.request_id

    async def ask() -> Any:
        planned = await cp.AsyncContextPilot(guide["pilot"]).rewrite([guide["question"]])
        headers = {"X-Request-Id": planned.request_id}
        return await litellm.acompletion(messages=planned.messages, extra_headers=headers, **place)

    assert asyncio.run(ask()).choices
    assert engine.seen[-1][1]["messages"] == done.messages


def test_the_example_hits_more_than_twice_as_often() -> None:
    given, planned = litellm_client.compare()
    assert planned > 2 * given > 0

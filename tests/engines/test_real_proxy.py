"""The official clients through the proxy to real engines: the same as direct, and it hits."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "server"))

from launch import Server, free_port, launch
from servers import Client, serving, wait_until

from contextpilot.server.run import make_server
from contextpilot.server.settings import Settings

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(900)]

BLOCKS = [
    f"Report {i}: the {word} was counted {i * 7} times in the valley, and {i} times on the hill."
    for i, word in enumerate(("heron", "otter", "beetle", "willow", "fox", "carp", "newt", "owl"))
]


@dataclass(frozen=True)
class Pair:
    """An engine, and our server in front of it."""

    engine: Server
    proxy: Client

    def clients(self) -> tuple[openai.OpenAI, openai.OpenAI]:
        """Return OpenAI clients of the engine and of the proxy."""
        urls = (self.engine.base_url, self.proxy.url)
        direct, proxied = (openai.OpenAI(base_url=url + "/v1", api_key="none") for url in urls)
        return direct, proxied


@pytest.fixture(scope="module", params=["vllm", "sglang"])
def pair(request: pytest.FixtureRequest, engine: Callable[[str], Any]) -> Iterator[Pair]:
    engine(request.param)
    ports = free_port(), free_port()
    url = f"http://127.0.0.1:{ports[0]}"
    with contextlib.ExitStack() as stack:
        server = make_server(Settings(engine=(url,), port=ports[1]))
        ours = stack.enter_context(serving(server))
        running = stack.enter_context(
            launch(request.param, port=ports[0], env={"CONTEXTPILOT_INDEX_URL": ours})
        )
        yield Pair(running, Client(ours))


def ask(client: openai.OpenAI, **more: Any) -> Any:
    given = {"max_tokens": 8, "temperature": 0, "seed": 1, **more}
    messages = given.pop("messages", [{"role": "user", "content": "Say something."}])
    return client.chat.completions.create(model="tiny", messages=messages, **given)


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a town",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
    },
}
CALLS: dict[str, dict[str, Any]] = {
    "plain": {},
    "system": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Count to three."},
        ]
    },
    "logprobs": {"logprobs": True, "top_logprobs": 2},
    "stop": {"stop": ["zzz"]},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello."}]}]},
    "tool results": {
        "messages": [
            {"role": "user", "content": "And in Bonn?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call-1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"town": "Bonn"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "call-1", "content": "sunny"},
        ],
        "tools": [TOOL],
        "tool_choice": "none",
    },
}


def comparable(reply: Any) -> Any:
    """Return a reply without what differs from call to call."""
    content = reply.model_dump(mode="json", warnings=False)
    for name in ("id", "created", "usage", "metadata"):
        content.pop(name, None)
    return content


@pytest.mark.parametrize("call", CALLS)
def test_chat_is_the_same_as_direct(pair: Pair, call: str) -> None:
    direct, proxied = (ask(client, **CALLS[call]) for client in pair.clients())
    assert comparable(proxied) == comparable(direct)


def test_structured_output_is_the_same_as_direct(pair: Pair) -> None:
    schema = {
        "type": "object",
        "properties": {"answer": {"enum": ["yes", "no"]}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    direct, proxied = (
        ask(client, response_format=form, max_tokens=64) for client in pair.clients()
    )
    assert comparable(proxied) == comparable(direct)


def test_streams_are_the_same_as_direct(pair: Pair) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    found = []
    for client in pair.clients():
        chunks = list(ask(client, **options))
        choices = [choice for chunk in chunks for choice in chunk.choices]
        text = "".join(choice.delta.content or "" for choice in choices)
        usage = chunks[-1].usage
        assert len(chunks) > 2
        found.append((text, choices[-1].finish_reason, usage and usage.total_tokens))
    assert found[0] == found[1]
    assert found[0][2] is not None


def test_several_choices_come_back(pair: Pair) -> None:
    direct, proxied = (ask(client, n=2, temperature=1) for client in pair.clients())
    assert len(proxied.choices) == len(direct.choices) == 2


def test_completions_and_models_are_the_same_as_direct(pair: Pair) -> None:
    direct, proxied = (
        client.completions.create(model="tiny", prompt="One, two,", max_tokens=4, temperature=0)
        for client in pair.clients()
    )
    assert comparable(proxied) == comparable(direct)
    direct_models, proxied_models = (
        [model.id for model in client.models.list()] for client in pair.clients()
    )
    assert proxied_models == direct_models


def test_errors_are_the_same_as_direct(pair: Pair) -> None:
    found = []
    for client in pair.clients():
        with pytest.raises(openai.APIStatusError) as caught:
            ask(client, messages=[])
        found.append((caught.value.status_code, caught.value.body))
    assert found[0][0] == found[1][0]


def test_reordered_blocks_hit_and_the_engine_reports_it(pair: Pair) -> None:
    _, client = pair.clients()

    def cached(blocks: list[str], question: str) -> tuple[int, str]:
        raw = client.chat.completions.with_raw_response.create(
            model="tiny",
            max_tokens=2,
            messages=[{"role": "user", "content": question}],
            extra_body={"contextpilot": {"contexts": blocks}},
        )
        usage = raw.parse().usage
        details = usage.prompt_tokens_details if usage else None
        result = json.loads(raw.headers["x-contextpilot-result"])
        return (details.cached_tokens or 0) if details else 0, result["request_id"]

    _, first = cached(BLOCKS, "Which animal is rare?")
    hits, second = cached(BLOCKS[::-1], "Which animal is common?")
    assert hits >= 128
    for request_id in (first, second):
        assert pair.proxy.get(f"/explain/{request_id}").json()["status"] == 200
    told = pair.proxy.get(f"/explain/{second}").json()
    assert told["cached_tokens"] == hits
    assert told["matched_blocks"] == len(BLOCKS)

    def health() -> Any:
        return pair.proxy.get("/health").json()

    def num_reported() -> int:
        return sum(reporter["num_requests"] for reporter in health()["sync"].values())

    wait_until(lambda: num_reported() >= 2, 60)
    assert health()["engines"][0]["sync"] == "exact"


@pytest.mark.parametrize("stream", [False, True])
def test_anthropic_messages_are_the_same_as_direct(pair: Pair, stream: bool) -> None:
    replies = []
    for url in (pair.engine.base_url, pair.proxy.url):
        client = anthropic.Anthropic(base_url=url, api_key="none", max_retries=0)
        given: dict[str, Any] = {
            "model": "tiny",
            "max_tokens": 4,
            "system": "Be brief.",
            "messages": [{"role": "user", "content": "Hello."}],
            "extra_body": {"temperature": 0},
        }
        try:
            if stream:
                with client.messages.stream(**given) as events:
                    replies.append(events.get_final_text())
            else:
                reply = client.messages.create(**given)
                replies.append([block.model_dump() for block in reply.content])
        except anthropic.APIStatusError as error:
            replies.append(error.status_code)
    assert replies[0] == replies[1]

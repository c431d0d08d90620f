"""Calls of the official clients whose results must not depend on what stands between.

Each takes a client and returns something comparable: what differs from call to call anyway (ids,
times, how much was cached) is left out, streams are put together. An error is a result like others.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import anthropic
import openai
from launch import HTTP, MODEL_NAME

VARYING = frozenset(
    (
        *("id", "call_id", "item_id", "request_id", "created", "created_at", "completed_at"),
        *("cached_tokens", "created_cache_tokens", "prompt_tokens_details", "input_tokens_details"),
        *("cache_read_input_tokens", "cache_creation_input_tokens"),
    )
)
GREEDY: dict[str, Any] = {"model": MODEL_NAME, "max_tokens": 12, "temperature": 0, "seed": 1}
QUESTION = [{"role": "user", "content": "Say something."}]


def comparable(content: Any) -> Any:
    """Return JSON without what differs from call to call."""
    if isinstance(content, dict):
        return {k: comparable(v) for k, v in content.items() if k not in VARYING}
    if isinstance(content, list):
        return [comparable(item) for item in content]
    return content


def dumped(reply: Any) -> Any:
    """Return a client's object as comparable JSON."""
    return comparable(reply.model_dump(mode="json", warnings=False))


# -- chat ------------------------------------------------------------------------------------------

TOWNS = {
    "type": "object",
    "properties": {"town": {"type": "string", "enum": ["Bonn", "Trier"]}},
    "required": ["town"],
    "additionalProperties": False,
}
ANSWER = {
    "type": "object",
    "properties": {"answer": {"enum": ["yes", "no"]}, "sure": {"type": "boolean"}},
    "required": ["answer", "sure"],
    "additionalProperties": False,
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"{name} of a town",
            "parameters": TOWNS,
            "strict": True,
        },
    }
    for name in ("weather", "mayor")
]
NAMED = {"type": "function", "function": {"name": "mayor"}}
ONE_CALL = {"tools": TOOLS, "parallel_tool_calls": False, "max_tokens": 100}
FORM = {"type": "json_schema", "json_schema": {"name": "answer", "schema": ANSWER, "strict": True}}
TOOL_RESULTS = [
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
]

CHAT: dict[str, dict[str, Any]] = {
    "plain": {},
    "system": {"messages": [{"role": "system", "content": "Be brief."}, *QUESTION]},
    "parts": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Héllo — 你好"}]}]
    },
    "logprobs": {"logprobs": True, "top_logprobs": 2},
    "two choices": {"n": 2, "temperature": 0.7},
    "sampled": {"temperature": 1, "seed": 7},
    "unknown members": {"extra_body": {"top_k": 3, "min_p": 0.1, "ignore_eos": True}},
    "logit bias": {"logit_bias": {"300": 100}},
    "tool results": {"messages": TOOL_RESULTS, "tools": TOOLS, "tool_choice": "none"},
    "any tool": {**ONE_CALL, "tool_choice": "required"},
    "named tool": {**ONE_CALL, "tool_choice": NAMED},
    "schema": {"response_format": FORM, "max_tokens": 100},
    "json object": {"response_format": {"type": "json_object"}, "max_tokens": 30},
    "no messages": {"messages": []},
    "unknown model": {"model": "nobody"},
    "negative length": {"max_tokens": -1},
    "too hot": {"temperature": 99},
    "too long": {"max_tokens": 100_000},
    "unknown role": {"messages": [{"role": "king", "content": "Hello."}]},
    "broken schema": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "a", "schema": {"type": "nonsense"}},
        }
    },
}
STREAMED = ("plain", "logprobs", "two choices", "any tool", "named tool", "schema", "unknown model")


def chat(client: openai.OpenAI, given: Mapping[str, Any]) -> Any:
    """Return the reply to one chat completion."""
    arguments = {**GREEDY, "messages": QUESTION, **given}
    return client.chat.completions.create(**arguments)


def whole(client: openai.OpenAI, given: Mapping[str, Any]) -> Any:
    """Return the comparable reply to one chat completion."""
    return dumped(chat(client, given))


def merged(chunks: Iterable[Any]) -> Any:
    """Put a stream of chat chunks together; how tokens fall into chunks is a matter of time."""
    choices: dict[int, dict[str, Any]] = defaultdict(
        lambda: {"text": "", "names": {}, "arguments": {}, "logprobs": [], "finish": None}
    )
    usage = None
    for chunk in chunks:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            _extend(choices[choice.index], choice)
    return {"choices": dict(choices), "usage": usage and dumped(usage)}


def _extend(into: dict[str, Any], choice: Any) -> None:
    into["text"] += choice.delta.content or ""
    into["finish"] = choice.finish_reason or into["finish"]
    if choice.logprobs and choice.logprobs.content:
        into["logprobs"] += [dumped(token) for token in choice.logprobs.content]
    for call in choice.delta.tool_calls or ():
        for part, text in (("names", call.function.name), ("arguments", call.function.arguments)):
            into[part][call.index] = into[part].get(call.index, "") + (text or "")


def streamed(client: openai.OpenAI, given: Mapping[str, Any]) -> Any:
    """Return the merged stream of one chat completion."""
    options = {"stream": True, "stream_options": {"include_usage": True}}
    return merged(chat(client, {**given, **options}))


def stopped(client: openai.OpenAI) -> Any:
    """Generate, then once more with a stop sequence from the middle of what came."""
    text = chat(client, {"max_tokens": 24}).choices[0].message.content
    stop = text[len(text) // 2 :][:4]
    reply = chat(client, {"max_tokens": 24, "stop": [stop]})
    assert reply.choices[0].finish_reason == "stop"
    return dumped(reply)


# -- the other APIs --------------------------------------------------------------------------------

COMPLETIONS: dict[str, dict[str, Any]] = {
    "one prompt": {"prompt": "One, two,"},
    "prompts": {"prompt": ["One, two,", "Red, green,"]},
    "choices": {"prompt": "One, two,", "n": 2, "temperature": 0.7},
    "token ids": {"prompt": [[300, 301, 302, 303], [310, 311]]},
    "echo": {"prompt": "One, two,", "echo": True, "logprobs": 1},
    "none": {"prompt": []},
}
RESPONSES: dict[str, dict[str, Any]] = {
    "text": {"input": "Say something."},
    "messages": {
        "input": [{"role": "user", "content": "Say something."}],
        "instructions": "Brief.",
    },
    "unknown model": {"input": "Hello.", "model": "nobody"},
}
MESSAGES: dict[str, dict[str, Any]] = {
    "plain": {},
    "system parts": {
        "system": [
            {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "Be kind."},
        ]
    },
    "stop": {"stop_sequences": ["zzz"]},
    "any tool": {
        "tools": [{"name": "weather", "description": "Weather of a town", "input_schema": TOWNS}],
        "tool_choice": {"type": "any"},
        "max_tokens": 60,
    },
    "unknown model": {"model": "nobody"},
    "no messages": {"messages": []},
}
RAW: dict[str, tuple[str, str, Any]] = {
    "models": ("GET", "/v1/models", None),
    "one model": ("GET", "/v1/models/tiny", None),
    "no such model": ("GET", "/v1/models/nobody", None),
    "no such path": ("GET", "/v1/nothing/at/all?a=b%20c", None),
    "wrong method": ("GET", "/v1/chat/completions", None),
    "tokenize": ("POST", "/v1/tokenize", {"model": MODEL_NAME, "prompt": "One, two,"}),
    "embeddings": ("POST", "/v1/embeddings", {"model": MODEL_NAME, "input": "Hello."}),
    "score": ("POST", "/v1/score", {"model": MODEL_NAME, "text_1": "a", "text_2": "b"}),
    "rerank": ("POST", "/v1/rerank", {"model": MODEL_NAME, "query": "a", "documents": ["b"]}),
    "count tokens": (
        "POST",
        "/v1/messages/count_tokens",
        {"model": MODEL_NAME, "messages": QUESTION},
    ),
    "broken JSON": ("POST", "/v1/chat/completions", b'{"messages": ['),
    "not an object": ("POST", "/v1/chat/completions", b"[1, 2]"),
}


def complete(client: openai.OpenAI, given: Mapping[str, Any]) -> Any:
    """Return the reply to one text completion."""
    return dumped(client.completions.create(**{**GREEDY, "max_tokens": 6, **given}))


def complete_streamed(client: openai.OpenAI, given: Mapping[str, Any]) -> Any:
    """Return the texts of one streamed text completion."""
    texts: dict[int, str] = defaultdict(str)
    for chunk in client.completions.create(**{**GREEDY, **given}, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    return dict(texts)


def respond(client: openai.OpenAI, given: Mapping[str, Any], stream: bool) -> Any:
    """Return the response that a call, or its stream, ends with."""
    limits = {"model": MODEL_NAME, "max_output_tokens": 8, "temperature": 0}
    reply = client.responses.create(**{**limits, **given}, stream=stream)
    if not stream:
        return dumped(reply)
    events: list[Any] = list(reply)
    kinds = list(dict.fromkeys(event.type for event in events))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    return kinds, text


def converse(client: anthropic.Anthropic, given: Mapping[str, Any], stream: bool) -> Any:
    """Return the message that a call of Anthropic's API, or its stream, ends with."""
    cold = {"temperature": 0}
    plain = {"model": MODEL_NAME, "max_tokens": 8, "messages": QUESTION, "extra_body": cold}
    if not stream:
        return dumped(client.messages.create(**{**plain, **given}))
    with client.messages.stream(**{**plain, **given}) as events:
        return dumped(events.get_final_message())


def raw(url: str, method: str, path: str, content: Any) -> Any:
    """Return status, type and body of a request without a client library."""
    body = (
        content if isinstance(content, bytes) or content is None else json.dumps(content).encode()
    )
    headers = {"Content-Type": "application/json"} if body is not None else {}
    request = urllib.request.Request(url + path, body, headers, method=method)
    try:
        with HTTP.open(request, timeout=60) as reply:
            status, kind, answer = reply.status, reply.headers["content-type"], reply.read()
    except urllib.error.HTTPError as error:
        status, kind, answer = error.code, error.headers["content-type"], error.read()
    try:
        return status, kind, comparable(json.loads(answer))
    except ValueError:
        return status, kind, answer


# -- all of them -----------------------------------------------------------------------------------

Call = Callable[[str], Any]
"""Takes the base URL of the engine, or of what stands before it."""


@cache
def openai_client(url: str) -> openai.OpenAI:
    """Return the client of an engine, or of what stands before it."""
    return openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)


@cache
def _anthropic_client(url: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, api_key="none", max_retries=0)


def _openai(work: Callable[..., Any], *arguments: Any) -> Call:
    return lambda url: work(openai_client(url), *arguments)


def _anthropic(work: Callable[..., Any], *arguments: Any) -> Call:
    return lambda url: work(_anthropic_client(url), *arguments)


def _raw(request: tuple[str, str, Any]) -> Call:
    return lambda url: raw(url, *request)


def _all_calls() -> dict[str, Call]:
    calls: dict[str, Call] = {"chat: stop sequence": _openai(stopped)}
    for name, given in CHAT.items():
        calls[f"chat: {name}"] = _openai(whole, given)
    for name in STREAMED:
        calls[f"chat stream: {name}"] = _openai(streamed, CHAT[name])
    for name, given in COMPLETIONS.items():
        calls[f"completions: {name}"] = _openai(complete, given)
    calls["completions stream: prompts"] = _openai(complete_streamed, COMPLETIONS["prompts"])
    for stream in (False, True):
        suffix = " stream" * stream
        for name, given in RESPONSES.items():
            calls[f"responses{suffix}: {name}"] = _openai(respond, given, stream)
        for name, given in MESSAGES.items():
            calls[f"messages{suffix}: {name}"] = _anthropic(converse, given, stream)
    for name, request in RAW.items():
        calls[f"raw: {name}"] = _raw(request)
    return calls


CALLS = _all_calls()


def result(call: Call, url: str) -> Any:
    """Return what a call gives: its result, or its error."""
    try:
        return call(url)
    except (openai.APIStatusError, anthropic.APIStatusError) as error:
        return type(error).__name__, error.status_code, comparable(error.body)
    except ValueError as error:  # the client cannot read what the model wrote
        return type(error).__name__


def shape(content: Any) -> Any:
    """Return what is left of a result without its texts and numbers."""
    if isinstance(content, dict):
        return {name: shape(value) for name, value in content.items() if name != "logprobs"}
    if isinstance(content, (list, tuple)):
        return [shape(item) for item in content]
    return type(content).__name__

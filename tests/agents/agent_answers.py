"""What the scripted model answers: a call of a tool, or that it is done, in each of three APIs.

Each function returns the whole answer, and after it the events of a streamed one.
"""

from __future__ import annotations

import json
from typing import Any

Call = tuple[str, dict[str, Any]]
Events = list[dict[str, Any]]

FINAL = "All done: FINAL-ANSWER-42"
USED = 100
"""Tokens of a prompt, as the model counts them unless told otherwise."""


def chat(call: Call | None, number: int, used: int = USED) -> Events:
    """Chat Completions."""
    told: dict[str, Any] = {"role": "assistant", "content": None if call else FINAL}
    if call:
        function = {"name": call[0], "arguments": json.dumps(call[1])}
        told["tool_calls"] = [{"id": f"call_{number:06}", "type": "function", "function": function}]
    why = "tool_calls" if call else "stop"
    usage = {"prompt_tokens": used, "completion_tokens": 1, "total_tokens": used + 1}
    head = {"id": "chatcmpl-1", "created": 1, "model": "scripted"}
    whole = {**head, "object": "chat.completion", "usage": usage}
    whole["choices"] = [{"index": 0, "finish_reason": why, "message": told}]
    delta = {**told, "tool_calls": [{"index": 0, **one} for one in told.get("tool_calls", ())]}
    if not call:
        del delta["tool_calls"]
    chunk = {**head, "object": "chat.completion.chunk"}
    chunks = [
        {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": why}]},
        {**chunk, "choices": [], "usage": usage},
    ]
    return [whole, *chunks]


def responses(call: Call | None, number: int, used: int = USED) -> Events:
    """Responses."""
    text = {"type": "output_text", "text": FINAL, "annotations": []}
    item: dict[str, Any] = {"type": "message", "id": "m", "role": "assistant", "content": [text]}
    if call:
        given = json.dumps(call[1])
        item = {"type": "function_call", "id": f"f{number}", "arguments": given}
        item |= {"name": call[0], "call_id": f"call_{number:06}"}
    item["status"] = "completed"
    deltas = [{"type": "response.output_text.delta", "item_id": "m", "delta": FINAL}]
    for delta in deltas:
        delta |= {"output_index": 0, "content_index": 0, "logprobs": []}
    if call:
        deltas = []
    whole: dict[str, Any] = {"id": "r", "object": "response", "created_at": 1, "output": [item]}
    whole |= {"model": "scripted", "status": "completed", "parallel_tool_calls": True}
    whole |= {"tools": [], "tool_choice": "auto"}
    whole["usage"] = {
        "input_tokens": used,
        "output_tokens": 1,
        "total_tokens": used + 1,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    return [
        whole,
        {"type": "response.created", "response": {**whole, "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        *deltas,
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": whole},
    ]


def messages(call: Call | None, number: int, used: int = USED) -> Events:
    """Anthropic's Messages."""
    block: dict[str, Any] = {"type": "text", "text": FINAL}
    begun: dict[str, Any] = {"type": "text", "text": ""}
    delta = {"type": "text_delta", "text": FINAL}
    why = "end_turn"
    if call:
        name, given = call
        block = {"type": "tool_use", "id": f"toolu_{number:06}", "name": name, "input": given}
        begun, why = {**block, "input": {}}, "tool_use"
        delta = {"type": "input_json_delta", "partial_json": json.dumps(given)}
    usage = {"input_tokens": used, "output_tokens": 1}
    usage |= {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    whole: dict[str, Any] = {"id": f"msg_{number}", "type": "message", "role": "assistant"}
    whole |= {"model": "scripted", "content": [block], "stop_reason": why, "stop_sequence": None}
    whole["usage"] = usage
    end = {"stop_reason": why, "stop_sequence": None}
    return [
        whole,
        {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": begun},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": end, "usage": usage},
        {"type": "message_stop"},
    ]

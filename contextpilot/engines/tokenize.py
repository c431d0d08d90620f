"""How vLLM and SGLang are asked for the tokens of a prompt: `POST /tokenize`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PATH = "/tokenize"

_CHAT = (
    *("model", "messages", "tools", "tool_choice", "reasoning_effort", "chat_template"),
    *("chat_template_kwargs", "add_generation_prompt", "continue_final_message"),
    "add_special_tokens",
)
_TEXT = ("model", "prompt", "add_special_tokens")


_CHANGING = {
    "messages": ("tools", "thinking", "output_config", "output_format"),
    "responses": ("tools", "reasoning", "previous_response_id", "conversation", "prompt"),
}
"""What makes of a request of these APIs another prompt than its texts alone."""
_PARTS = ("text", "input_text", "output_text")
_BILLING = "x-anthropic-billing-header"
"""Begins a system text that vLLM leaves out: it is another with each request."""


def tokenize_body(api: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what to ask for the tokens of a request; None when they cannot be asked for.

    Engines read Messages and Responses as a chat. If one reads a request otherwise than is guessed
    here, its tokens are not among those that the engine holds, and nothing is believed of it.

    Args:
        api: name of the API's shape.
        body: the request. Of one with images or the like the tokens do not tell the content.
    """
    if api == "chat" and _is_text_alone(body.get("messages")):
        return {name: body[name] for name in _CHAT if name in body}
    if api == "completions" and isinstance(body.get("prompt"), str):
        return {name: body[name] for name in _TEXT if name in body}
    if api not in _CHANGING or any(body.get(name) for name in _CHANGING[api]):
        return None
    turns = _messages(body) if api == "messages" else _responses(body)
    if turns is None or not turns or turns[-1]["role"] != "user":
        return None
    return {**{name: body[name] for name in ("model",) if name in body}, "messages": turns}


def _messages(body: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return the chat of a request of the Messages API; None where it is not text alone."""
    system, turns = _texts(body.get("system", "")), _turns(body.get("messages"))
    if system is None or turns is None or any(turn["role"] == "system" for turn in turns):
        return None
    said = "".join(text for text in system if not text.startswith(_BILLING))
    return [{"role": "system", "content": said}, *turns] if said else turns


def _responses(body: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return the chat of a request of the Responses API; None where it is not text alone."""
    given, said = body.get("input"), body.get("instructions") or ""
    turns = _turns([{"role": "user", "content": given}] if isinstance(given, str) else given)
    if turns is None or not isinstance(said, str):
        return None
    return [{"role": "system", "content": said}, *turns] if said else turns


def _turns(items: Any) -> list[dict[str, Any]] | None:
    if not isinstance(items, list):
        return None
    turns = []
    for item in items:
        texts = _texts(item.get("content")) if isinstance(item, Mapping) else None
        if not texts or item.get("type", "message") != "message":
            return None
        if item.get("role") not in ("user", "assistant", "system"):
            return None
        parts = [{"type": "text", "text": text} for text in texts]
        turns.append({"role": item["role"], "content": texts[0] if len(texts) == 1 else parts})
    return turns


def _texts(content: Any) -> list[str] | None:
    """Return the texts of a content that are not empty; None where it holds anything else."""
    if isinstance(content, str):
        return [content] if content else []
    if not isinstance(content, list):
        return None
    texts = [
        part.get("text") if isinstance(part, Mapping) and part.get("type") in _PARTS else None
        for part in content
    ]
    return [text for text in texts if text] if all(isinstance(t, str) for t in texts) else None


def _is_text_alone(messages: Any) -> bool:
    if not isinstance(messages, list):
        return False
    contents = [m.get("content") if isinstance(m, Mapping) else 0 for m in messages]
    return all(
        content is None
        or isinstance(content, str)
        or (isinstance(content, list) and all(map(_is_text, content)))
        for content in contents
    )


def _is_text(part: Any) -> bool:
    return isinstance(part, str) or (isinstance(part, Mapping) and part.get("type") == "text")

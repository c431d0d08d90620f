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


def tokenize_body(api: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what to ask for the tokens of a request; None when they cannot be asked for.

    Args:
        api: name of the API's shape; only Chat Completions and Completions can be asked for.
        body: the request. Of one with images or the like the tokens do not tell the content.
    """
    if api == "chat" and _is_text_alone(body.get("messages")):
        return {name: body[name] for name in _CHAT if name in body}
    if api == "completions" and isinstance(body.get("prompt"), str):
        return {name: body[name] for name in _TEXT if name in body}
    return None


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

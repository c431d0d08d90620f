"""Which API a path speaks."""

from __future__ import annotations

from contextpilot.prompt.apis.anthropic import AnthropicMessages
from contextpilot.prompt.apis.openai import Chat, Completions, Responses
from contextpilot.prompt.apis.shape import Shape

OTHER = Shape()
_SHAPES: dict[str, Shape] = {
    "/v1/chat/completions": Chat(),
    "/v1/completions": Completions(),
    "/v1/responses": Responses(),
    "/v1/messages": AnthropicMessages(),
}


def shape_of(method: str, path: str) -> Shape | None:
    """Return the shape of requests that can be planned; None for all others."""
    return _SHAPES.get(path.rstrip("/")) if method == "POST" else None


_NEVER_PLANNED = frozenset(
    f"/v1/{name}"
    for name in (
        "chat/completions/batch", "embeddings", "rerank", "score", "classify", "pooling",
        "systemone", "decisions",
    )
)  # fmt: skip


def has_prompt(method: str, path: str) -> bool:
    """Return whether what is sent there goes through an engine's prefix cache, planned or not."""
    if method == "POST" and shape_of(method, path) is not None:
        return True
    return method in ("POST", "PUT") and path.rstrip("/") in _NEVER_PLANNED


def is_engines(path: str) -> bool:
    """Return whether it is a path of the engines' that clients are known to ask."""
    return path.rstrip("/") == "/v1/models" or has_prompt("POST", path)


_CALCULATED = frozenset(
    f"/v1/{name}"
    for name in (
        "embeddings", "rerank", "score", "classify", "pooling", "moderations", "tokenize",
        "detokenize", "messages/count_tokens", "audio/transcriptions", "audio/translations",
    )
)  # fmt: skip
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def changes_nothing(method: str, path: str) -> bool:
    """Return whether an engine may get a request twice: it reads, or calculates an answer."""
    if method in _READING:
        return True
    return shape_of(method, path) is not None or (
        method == "POST" and path.rstrip("/") in _CALCULATED
    )


def error_shape(path: str) -> Shape:
    """Return the shape in which errors at this path are written."""
    return _SHAPES["/v1/messages"] if path.startswith("/v1/messages") else OTHER

"""A conversation as a caller of the library gives it, as the body of a request."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from contextpilot.prompt.apis.anthropic import AnthropicMessages
from contextpilot.prompt.apis.openai import Chat
from contextpilot.prompt.apis.shape import Shape

_CHAT, _WITH_SYSTEM = Chat(), AnthropicMessages()


class GivenConversation(NamedTuple):
    """What a caller gave, as a body without objects of client libraries.

    Attributes:
        shape: tells where the parts stand in `body`.
        messages, system: as given.
    """

    shape: Shape
    body: dict[str, Any]
    messages: Sequence[Any]
    system: Any

    def messages_of(self, body: Mapping[str, Any]) -> list[Any]:
        """Return the messages of a written body; what did not change is the caller's object."""
        plain = self.body["messages"]
        return [
            given if written is known else written
            for given, known, written in zip(self.messages, plain, body["messages"], strict=True)
        ]

    def system_of(self, body: Mapping[str, Any]) -> Any:
        """Return the system prompt of a written body; what was given, if it did not change."""
        written = body.get("system")
        return self.system if written is self.body.get("system") else written


def given_conversation(
    messages: Any, system: Any = None, tools: Any = None, response_format: Any = None
) -> GivenConversation:
    """Return what was given as a body: the items of Responses stand where messages do.

    Raises:
        TypeError: an argument is of the wrong kind; it is named.
    """
    if not _is_list(messages):
        raise TypeError(
            f"messages must be a list of messages, not {type(messages).__name__}: "
            'a prompt alone is [{"role": "user", "content": prompt}]'
        )
    if system is not None and not isinstance(system, str) and not _is_list(system):
        raise TypeError(f"system must be a string or a list of parts, not {type(system).__name__}")
    if tools is not None and not _is_list(tools):
        raise TypeError(f"tools must be a list of tools, not {type(tools).__name__}")
    plain = [_plain(message) for message in messages]
    for number, message in enumerate(plain):
        if not isinstance(message, Mapping) or not ("role" in message or "type" in message):
            kind = type(messages[number]).__name__
            raise TypeError(f"messages[{number}] must be a message with a role or a type: {kind}")
    body: dict[str, Any] = {"messages": plain}
    if tools:
        body["tools"] = _plain(list(tools))
    if response_format is not None:
        body["response_format"] = _schema(response_format)
    if not system:
        return GivenConversation(_CHAT, body, messages, system)
    body["system"] = system if isinstance(system, str) else _plain(list(system))
    return GivenConversation(_WITH_SYSTEM, body, messages, system)


def _schema(response_format: Any) -> Any:
    """Return the form of an answer as a mapping, a model as its JSON schema."""
    schema = getattr(response_format, "model_json_schema", None)
    plain = schema() if callable(schema) else _plain(response_format)
    if not isinstance(plain, Mapping):
        kind = type(response_format).__name__
        raise TypeError(f"response_format must be a mapping or a Pydantic model, not {kind}")
    return plain


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _plain(node: Any) -> Any:
    """Return a value as it is sent: objects of client libraries as dictionaries.

    What holds none of them is returned itself.
    """
    if isinstance(node, (str, int, float, type(None))):
        return node
    dump = getattr(node, "model_dump", None)
    if callable(dump):
        return dump(mode="json", exclude_unset=True, by_alias=True)
    if isinstance(node, Mapping):
        items = {name: _plain(item) for name, item in node.items()}
        is_same = all(items[name] is item for name, item in node.items())
        return node if isinstance(node, dict) and is_same else items
    if isinstance(node, (list, tuple)):
        parts = [_plain(item) for item in node]
        is_same = all(map(operator.is_, parts, node))
        return node if isinstance(node, list) and is_same else parts
    return node

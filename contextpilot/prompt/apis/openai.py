"""OpenAI's request shapes: chat completions, completions, responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from contextpilot.prompt.apis.shape import Shape, message_list
from contextpilot.prompt.messages import Message


class Chat(Shape):
    """POST /v1/chat/completions."""

    name = "chat"

    def turns(self, body: Mapping[str, Any]) -> list[Message]:
        return message_list(body, "messages")

    def with_turns(self, body: Mapping[str, Any], turns: Sequence[Message]) -> dict[str, Any]:
        return {**body, "messages": list(turns)}


class Completions(Shape):
    """POST /v1/completions: the prompt counts as one user message; lists of prompts do not."""

    name = "completions"

    def turns(self, body: Mapping[str, Any]) -> list[Message]:
        prompt = body.get("prompt")
        return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else []

    def with_turns(self, body: Mapping[str, Any], turns: Sequence[Message]) -> dict[str, Any]:
        return {**body, "prompt": "\n\n".join(turn["content"] for turn in turns)}


class Responses(Shape):
    """POST /v1/responses: `input` is a text or a list of items."""

    name = "responses"

    def opening(self, body: Mapping[str, Any]) -> list[Message]:
        instructions = body.get("instructions")
        before = super().opening(body)
        if isinstance(instructions, str):
            before.append({"role": "system", "content": instructions})
        return before

    def searched(self, body: Mapping[str, Any]) -> list[Message]:
        turns = self.turns(body)
        instructions = body.get("instructions")
        if not isinstance(instructions, str):
            return turns
        return [{"role": "system", "content": instructions}, *turns]

    def unsearched(self, body: Mapping[str, Any]) -> list[Message]:
        return super().opening(body)

    def with_searched(self, body: Mapping[str, Any], messages: Sequence[Message]) -> dict[str, Any]:
        if not isinstance(body.get("instructions"), str):
            return self.with_turns(body, messages)
        instructions = messages[0]["content"]
        return {**self.with_turns(body, messages[1:]), "instructions": instructions}

    def turns(self, body: Mapping[str, Any]) -> list[Message]:
        if isinstance(body.get("input"), str):
            return [{"role": "user", "content": body["input"]}]
        return message_list(body, "input")

    def with_turns(self, body: Mapping[str, Any], turns: Sequence[Message]) -> dict[str, Any]:
        if isinstance(body.get("input"), str) and len(turns) == 1:
            return {**body, "input": turns[0]["content"]}
        return {**body, "input": list(turns)}

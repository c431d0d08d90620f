"""Tokens of prompts without asking the engine: the model's own tokenizer and template, here."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from contextpilot.sync.sources.kv_events.packages import MissingExtraError


class LocalTokenizer:
    """A model's tokenizer, loaded when it is first asked.

    Args:
        source: folder of the model, or its name in the local cache.

    Raises:
        MissingExtraError: transformers is not installed.
    """

    def __init__(self, source: str) -> None:
        if find_spec("transformers") is None:
            text = "kv_events: tokenizer= needs transformers: pip install transformers jinja2"
            raise MissingExtraError(text)
        self._source = source
        self._loaded: Any = None

    def tokens(self, asked: Mapping[str, Any]) -> list[int]:
        """Return the tokens of a prompt.

        Args:
            asked: as an engine's `/tokenize` takes it: `messages` with what belongs to them, or
                `prompt`.

        Raises:
            OSError: there is no such tokenizer.
        """
        if self._loaded is None:
            tokenizers = import_module("transformers").AutoTokenizer
            self._loaded = tokenizers.from_pretrained(self._source)
        if "prompt" in asked:
            special = asked.get("add_special_tokens", True)
            found: list[int] = self._loaded.encode(asked["prompt"], add_special_tokens=special)
            return found
        more = {
            name: asked[name]
            for name in ("tools", "chat_template", "continue_final_message")
            if asked.get(name) is not None
        }
        text = self._loaded.apply_chat_template(
            asked["messages"],
            tokenize=False,
            add_generation_prompt=asked.get("add_generation_prompt", True),
            **more,
            **(asked.get("chat_template_kwargs") or {}),
        )
        special = asked.get("add_special_tokens", False)
        return list(self._loaded.encode(text, add_special_tokens=special))

"""Tokens of prompts without asking the engine: the model's own tokenizer and template, here."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any


class LocalTokenizer:
    """A model's tokenizer, loaded when it is first asked.

    Args:
        source: folder of the model, or its name in the local cache.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._loaded: Any = None

    def tokens(self, asked: Mapping[str, Any]) -> list[int]:
        """Return the tokens of a prompt.

        Args:
            asked: as an engine's `/tokenize` takes it: `messages` with what belongs to them, or
                `prompt`.

        Raises:
            ImportError: transformers is not installed.
            OSError: there is no such tokenizer.
        """
        if self._loaded is None:
            self._loaded = self._load()
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

    def _load(self) -> Any:
        try:
            tokenizers = import_module("transformers").AutoTokenizer
        except ImportError:
            text = "kv_events: tokenizer= needs transformers: pip install transformers jinja2"
            raise ImportError(text) from None
        return tokenizers.from_pretrained(self._source)

"""A model's own tokenizer in the place of the engine's `/tokenize`."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest

from contextpilot.sync.sources.kv_events.local_tokenizer import LocalTokenizer


class Tokenizer:
    """As transformers makes them: a token for each character; a template that shows its input."""

    loaded = 0

    @classmethod
    def from_pretrained(cls, source: str) -> Tokenizer:
        assert source == "/models/m"
        cls.loaded += 1
        return cls()

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return [0] * add_special_tokens + [ord(c) for c in text]

    def apply_chat_template(self, messages: Any, tokenize: bool, **more: Any) -> str:
        assert not tokenize
        return repr((messages, sorted(more.items())))


@pytest.fixture
def tokenizer(monkeypatch: pytest.MonkeyPatch) -> LocalTokenizer:
    module: Any = ModuleType("transformers")
    module.AutoTokenizer = Tokenizer
    module.__spec__ = ModuleSpec("transformers", None)
    monkeypatch.setitem(sys.modules, "transformers", module)
    monkeypatch.setattr(Tokenizer, "loaded", 0)
    return LocalTokenizer("/models/m")


def test_messages_go_through_the_template(tokenizer: LocalTokenizer) -> None:
    messages = [{"role": "user", "content": "hi"}]
    asked = {"messages": messages, "tools": [1], "chat_template_kwargs": {"thinking": False}}
    text = "".join(map(chr, tokenizer.tokens(asked)))
    more = [("add_generation_prompt", True), ("thinking", False), ("tools", [1])]
    assert text == repr((messages, more))


def test_texts_begin_with_what_is_special(tokenizer: LocalTokenizer) -> None:
    assert tokenizer.tokens({"prompt": "ab"}) == [0, 97, 98]
    assert tokenizer.tokens({"prompt": "ab", "add_special_tokens": False}) == [97, 98]
    assert Tokenizer.loaded == 1


def test_without_transformers_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match="pip install transformers"):
        LocalTokenizer("/models/m")

"""Real tokenizers that packages bring along, and an engine's own over HTTP."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

Count = Callable[[str], int]
"""The tokens of a text."""


def packaged() -> Iterator[tuple[str, Count]]:
    """Yield name and counter of each tokenizer whose packages are installed.

    pip install tiktoken tokenizers; pip install --no-deps litellm dashscope mistral-common
    """
    for name, make in (
        ("cl100k (GPT-4)", lambda: _openai("cl100k_base")),
        ("o200k (GPT-4o)", lambda: _openai("o200k_base")),
        ("Qwen", _qwen),
        ("DeepSeek", _deepseek),
        ("Tekken (Mistral)", _tekken),
    ):
        try:
            yield name, make()
        except (ImportError, OSError) as error:
            print(f"{name}: left out ({error})")


def served(url: str) -> Count:
    """Return a counter that asks llama-server's or vLLM's `/tokenize`."""

    def count(text: str) -> int:
        body = json.dumps({"content": text, "prompt": text, "add_special": False}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{url.rstrip('/')}/tokenize", body, headers)
        with urllib.request.urlopen(request, timeout=30) as reply:
            return len(json.load(reply)["tokens"])

    return count


def _openai(name: str) -> Count:
    os.environ["TIKTOKEN_CACHE_DIR"] = str(_data("litellm", "litellm_core_utils/tokenizers"))
    import tiktoken

    encoding = tiktoken.get_encoding(name)
    return lambda text: len(encoding.encode(text, disallowed_special=()))


def _qwen() -> Count:
    from tiktoken import get_encoding
    from tiktoken.load import load_tiktoken_bpe

    os.environ["TIKTOKEN_CACHE_DIR"] = str(_data("litellm", "litellm_core_utils/tokenizers"))
    ranks = load_tiktoken_bpe(str(_data("dashscope", "resources/qwen.tiktoken")))
    # as GPT-4's, but each digit stands alone
    pattern = get_encoding("cl100k_base")._pat_str
    for digits in (r"\p{N}{1,3}+", r"\p{N}{1,3}"):
        pattern = pattern.replace(digits, r"\p{N}")
    return _encoding("qwen", pattern, ranks)


def _tekken() -> Count:
    told = json.loads(_data("mistral_common", "data/tekken_240911.json").read_text())
    from base64 import b64decode

    config = told["config"]
    size = config["default_vocab_size"] - config["default_num_special_tokens"]
    ranks = {b64decode(one["token_bytes"]): one["rank"] for one in told["vocab"][:size]}
    return _encoding("tekken", config["pattern"], ranks)


def _deepseek() -> Count:
    from tokenizers import Tokenizer

    file = _data("litellm", "litellm_core_utils/tokenizers/deepseek_tokenizer.json")
    tokenizer = Tokenizer.from_file(str(file))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def _encoding(name: str, pattern: str, ranks: dict[bytes, int]) -> Count:
    import tiktoken

    made: Any = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return lambda text: len(made.encode(text, disallowed_special=()))


def _data(package: str, path: str) -> Path:
    """Return a file of an installed package, without importing it."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"no package {package}")
    return Path(spec.submodule_search_locations[0]) / path

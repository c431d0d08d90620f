"""LMCache: options that suit its chunks, prompts that its blending splits, what it still holds.

    from contextpilot.integrations.lmcache import planning_options

    pilot = ContextPilot(**planning_options(LMCacheEngineConfig.from_env()))

Written against LMCache 0.5; nothing of LMCache is imported, so it may run elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import requests

from contextpilot.options import CallOptions

SEPARATOR = " # # "
"""LMCache's own default of `blend_special_str`."""


def planning_options(config: Any) -> CallOptions:
    """Return the options of `ContextPilot` and its calls that suit a configuration of LMCache.

    With blending a block is found wherever it stands, so nothing is moved for it. Without, whole
    chunks are found, so blocks move only for one chunk or more.

    Args:
        config: has `chunk_size` and `enable_blending`, as `LMCacheEngineConfig`.
    """
    if config.enable_blending:
        return {"reorder": False}
    return {"min_gain_tokens": int(config.chunk_size)}


def blended_tokens(
    encode: Callable[..., Sequence[int]],
    head: str,
    texts: Sequence[str],
    tail: str,
    separator: str = SEPARATOR,
) -> list[int]:
    """Return the token ids of a prompt whose blocks LMCache's blending finds, for `prompt`.

    The separator stands between head, blocks and tail as the very tokens that LMCache looks for.
    Written as text it would merge with what stands beside it in most tokenizers, and not be found.
    The blocks are not numbered: a number would make the same text another block at another place.

    Args:
        encode: of the model's tokenizer, `AutoTokenizer.from_pretrained(model).encode`.
        head: all text before the blocks, with the model's chat template.
        texts: the blocks, in the order in which they are to be written.
        tail: all text after them: the question, and the template's beginning of the answer.
        separator: `blend_special_str` of LMCache's configuration.

    Raises:
        ValueError: the tokenizer writes the separator as one token, of which LMCache keeps none.
    """
    between = list(encode(separator))[1:]  # LMCache drops the first, whichever it is
    if not between:
        raise ValueError(
            f"separator {separator!r} is one token, and LMCache drops the first: "
            "choose a longer blend_special_str"
        )
    tokens = list(encode(head))
    for text in (*texts, tail):
        tokens += [*between, *encode(text, add_special_tokens=False)]
    return tokens


def held_tokens(
    controller: str, tokens: Sequence[int], *, timeout_s: float = 2.0
) -> dict[str, tuple[str, int]]:
    """Ask LMCache's controller who holds the beginning of a prompt, in whole chunks.

    Args:
        controller: its URL; LMCache runs with `enable_controller`.
        tokens: the ids of the prompt.
        timeout_s: longest wait for the answer.

    Returns:
        For each instance the place (`LocalCPUBackend`, ...) and the end, in tokens, of the last
        chunk that it holds.

    Raises:
        requests.RequestException: the controller is away, or cannot tell.
    """
    url = f"{controller.rstrip('/')}/lookup"
    answer = requests.post(url, json={"tokens": list(tokens)}, timeout=timeout_s)
    answer.raise_for_status()
    layout = answer.json()["layout_info"]
    return {instance: (str(place), int(end)) for instance, (place, end) in layout.items()}

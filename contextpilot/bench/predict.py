"""What `simulate` says an engine's cache should hit, beside what it did.

The prompts of an arm, in the order in which they were sent, go through the simulated prefix cache
of `contextpilot.plan.simulate`: system message, blocks and the rest are its blocks, weighed by the
engine's own tokenizer, and a hit is rounded down to whole blocks of the engine's cache.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from contextpilot.bench.engine import Cache
from contextpilot.bench.prompts import Prompt
from contextpilot.block import BlockKey
from contextpilot.plan.simulate import PrefixCache

_SIMILAR = 0.1
"""llama-server's default --slot-prompt-similarity: below, a prompt takes the oldest slot."""

Weights = Mapping[BlockKey, int]


def predict(
    prompts: Sequence[Prompt], prompt_tokens: Mapping[int, int], weights: Weights, cache: Cache
) -> dict[int, int]:
    """Return the cached tokens to expect of each request, by its position.

    Args:
        prompts: in the order in which they were sent; those without pieces are left out.
        prompt_tokens: of each request, as the engine counted them.
        weights: tokens of every block, and of every system message.
    """
    if cache.num_slots is not None:
        simulated: PrefixCache | SlotCache = SlotCache(cache.num_slots)
    else:
        simulated = PrefixCache(cache.tokens)
    expected = {}
    for prompt in prompts:
        tokens = prompt_tokens.get(prompt.position)
        if tokens is None or not prompt.pieces:
            continue
        keys, own = _weighed(prompt, tokens, weights)
        hits = min(simulated.request(keys, own, prompt.position), tokens - 1)
        expected[prompt.position] = hits // cache.block_size * cache.block_size
    return expected


def _weighed(
    prompt: Prompt, tokens: int, weights: Weights
) -> tuple[list[BlockKey], dict[BlockKey, int]]:
    """Return the keys of a prompt's pieces and their tokens; the last one takes what is left."""
    *known, last = prompt.pieces
    own = {piece.key: weights[piece.key] for piece in known}
    left = tokens - sum(own[piece.key] for piece in known)
    key = ("tail", prompt.position, last.key)
    return [*(piece.key for piece in known), key], own | {key: max(1, left)}


def texts_to_weigh(prompts: Sequence[Prompt]) -> dict[BlockKey, str]:
    """Return the text of every piece; a block stands with one of its numbers.

    Of the last pieces, which no two prompts share, only the first prompt's is there.
    """
    found: dict[BlockKey, str] = {}
    for prompt in prompts:
        for piece in prompt.pieces[:-1] if found else prompt.pieces:
            found.setdefault(piece.key, piece.text)
    return found


def fitted(
    weights: Weights, prompts: Sequence[Prompt], messages: Sequence[int], tokens: int
) -> Weights:
    """Fit weights to how the engine counts a whole prompt.

    Texts that are tokenized alone have other tokens at their ends than in a prompt: blocks are
    scaled by that. What the chat template adds becomes a part of the prompts' heads.

    Args:
        prompts: of all arms; the first one's pieces are all weighed.
        messages: tokens of the contents of the first prompt's messages.
        tokens: of the first prompt.
    """
    first = prompts[0].pieces
    alone = sum(weights[piece.key] for piece in first[1:])
    scale = messages[-1] / alone if alone else 1.0
    added = max(0, tokens - sum(messages))
    heads = {prompt.pieces[0].key for prompt in prompts if prompt.pieces}
    return {
        key: weight + added if key in heads else max(1, round(weight * scale))
        for key, weight in weights.items()
    }


def estimated(
    texts: Mapping[BlockKey, str], prompts: Sequence[Prompt], prompt_tokens: Mapping[int, int]
) -> dict[BlockKey, int]:
    """Return tokens by length, at the rate of tokens per character that the engine's counts show.

    For engines without an API that counts tokens.
    """
    chars = tokens = 0
    for prompt in prompts:
        if prompt.pieces and prompt.position in prompt_tokens:
            chars += sum(len(piece.text) for piece in prompt.pieces)
            tokens += prompt_tokens[prompt.position]
    rate = tokens / chars if chars else 0.25
    return {key: max(1, round(len(text) * rate)) for key, text in texts.items()}


class SlotCache:
    """llama-server's cache: the last prompt of each slot, without the host's RAM behind it."""

    def __init__(self, num_slots: int) -> None:
        self._slots: list[list[tuple[BlockKey, int]]] = [[] for _ in range(num_slots)]

    def request(
        self, keys: Sequence[BlockKey], weights: Mapping[BlockKey, int], _: Hashable = None
    ) -> int:
        """Run one request; return its hit tokens. Slots are kept with the oldest first."""
        prompt = [(key, weights[key]) for key in keys]
        total = sum(weight for _, weight in prompt)
        hits = [_common(slot, prompt) for slot in self._slots]
        best = max(range(len(hits)), key=hits.__getitem__)
        chosen = best if hits[best] > _SIMILAR * total else 0
        hit = hits[chosen]
        del self._slots[chosen]
        self._slots.append(prompt)
        return hit


def _common(held: Sequence[tuple[BlockKey, int]], prompt: Sequence[tuple[BlockKey, int]]) -> int:
    tokens = 0
    for one, other in zip(held, prompt, strict=False):
        if one != other:
            break
        tokens += one[1]
    return tokens

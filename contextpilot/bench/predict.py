"""What `simulate` says an engine's cache should hit, beside what it did.

The prompts of an arm, in the order in which they were sent, go through the simulated prefix cache
of `contextpilot.plan.simulate`: system message, blocks and the rest are its blocks, weighed by the
engine's own tokenizer, and a hit is rounded down to whole blocks of the engine's cache.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeAlias

from contextpilot.bench.prompts import Prompt
from contextpilot.block import BlockKey
from contextpilot.engines.base import Cache
from contextpilot.engines.llamacpp import KEEPS_SLOT, RESTORED, SIMILAR
from contextpilot.plan.simulate import PrefixCache

Weights = Mapping[BlockKey, int]
_Held: TypeAlias = list[tuple[BlockKey, int]]


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
        simulated: PrefixCache | SlotCache = SlotCache(cache.num_slots, cache.host_tokens)
    else:
        simulated = PrefixCache(cache.tokens)
    expected = {}
    for prompt in prompts:
        tokens = prompt_tokens.get(prompt.position)
        if tokens is None or not prompt.pieces:
            continue
        keys, own = _weighed(prompt, tokens, weights)
        held = simulated.request(keys, own, prompt.position)
        expected[prompt.position] = cache.hits(held, tokens)
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
    """llama-server's cache: the last prompt of each slot, and older ones in the host's memory.

    Slots are chosen, and prompts saved to the host's memory (`--cache-ram`) and loaded from there,
    by the rules of llama.cpp b11434.

    Args:
        num_slots: prompts that slots hold.
        host_tokens: prompt tokens that the host's memory holds; 0: no prompt is saved there.
    """

    def __init__(self, num_slots: int, host_tokens: int = 0) -> None:
        self._slots: list[_Held] = [[] for _ in range(num_slots)]
        self._host: list[_Held] = []
        self._host_tokens = host_tokens

    def request(
        self, keys: Sequence[BlockKey], weights: Mapping[BlockKey, int], _: Hashable = None
    ) -> int:
        """Run one request; return its hit tokens. Slots are kept with the oldest first."""
        prompt = [(key, weights[key]) for key in keys]
        hits = [_common(slot, prompt) for slot in self._slots]
        best = max(range(len(hits)), key=hits.__getitem__)
        is_similar = hits[best] > SIMILAR * _tokens(prompt)
        held = self._slots.pop(best if is_similar else 0)
        if self._host_tokens and not (is_similar and _kept(held, prompt) >= KEEPS_SLOT):
            self._save(held)
            held = self._load(held, prompt)
            self._bound()
        self._slots.append(prompt)
        return _common(held, prompt)

    def _save(self, held: _Held) -> None:
        if not held or any(_common(other, held) == _tokens(held) for other in self._host):
            return
        self._host = [each for each in self._host if _common(each, held) < _tokens(each)]
        self._host.append(held)

    def _load(self, held: _Held, prompt: _Held) -> _Held:
        """Take the saved prompt that serves this one best, if any serves it better than `held`."""
        best, chosen = held, None
        for i, saved in enumerate(self._host):
            kept = _kept(saved, prompt)
            longer = _common(saved, prompt) > _common(best, prompt)
            if kept >= RESTORED and kept > _kept(best, prompt) and longer:
                best, chosen = saved, i
        if chosen is not None:
            del self._host[chosen]
        return best

    def _bound(self) -> None:
        while len(self._host) > 1 and sum(map(_tokens, self._host)) > self._host_tokens:
            del self._host[0]


def _tokens(held: _Held) -> int:
    return sum(weight for _, weight in held)


def _kept(held: _Held, prompt: _Held) -> float:
    """Return the share of what is held that a prompt would go on using."""
    return _common(held, prompt) / _tokens(held) if held else 0.0


def _common(held: _Held, prompt: _Held) -> int:
    tokens = 0
    for one, other in zip(held, prompt, strict=False):
        if one != other:
            break
        tokens += one[1]
    return tokens

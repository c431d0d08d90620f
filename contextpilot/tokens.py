"""How many tokens a text is: estimated from its characters, then learnt from engines' counts."""

from __future__ import annotations

import zlib
from collections import OrderedDict, deque
from collections.abc import Sequence
from statistics import mean, median
from typing import Literal

Source = Literal["tokenizer", "learnt", "estimate"]
"""Where weights come from: the caller's tokenizer; the engine's counts; the characters alone."""

_UNIT = 80
"""Rates are integers in units of 1/80 token."""
_SLICE, _ASCII_SLICE = 256, 935
"""So many rates of at most 255, or at most 70, sum to less than Adler-32's modulus."""
_WHOLE_CHARS = 2048
_NUM_SAMPLES = 16
_SAMPLE_CHARS = 128
_STRIDE = 7919
"""A prime, so that samples do not fall into step with the rows of a table."""

_RATES: tuple[tuple[int, int, int], ...] = (
    (0x00, 0x7F, 53),  # punctuation and signs
    (0x30, 0x39, 70),  # digits: alone or up to three in a token
    (0x41, 0x5A, 14),  # letters
    (0x61, 0x7A, 14),
    (0x20, 0x20, 43),  # a space begins a word
    (0x09, 0x0D, 17),
    (0xC2, 0xCD, 78),  # Latin letters with marks: they break up words
    (0xCE, 0xCF, 43),  # Greek
    (0xD0, 0xD3, 29),  # Cyrillic
    (0xD4, 0xD7, 38),  # Armenian, Hebrew
    (0xD8, 0xDF, 31),  # Arabic
    (0xE0, 0xE0, 47),  # Devanagari, Thai and their neighbours
    (0xE1, 0xE1, 51),  # Vietnamese, Georgian, Khmer
    (0xE2, 0xE2, 40),  # dashes, quotes, symbols
    (0xE3, 0xE3, 65),  # kana, CJK punctuation
    (0xE4, 0xE9, 70),  # Han
    (0xEA, 0xED, 59),  # Hangul
    (0xEE, 0xEF, 50),  # wide forms
    (0xF0, 0xF4, 240),  # emoji
)
"""First and last lead byte in UTF-8, and what a character that begins so counts.

Fitted to five tokenizers of today's models (`scripts/bench_weights.py` shows how well) on texts in
thirty languages, code and data; English comes out near a quarter of its characters.
"""


def _table() -> bytes:
    table = bytearray(256)
    for first, last, rate in _RATES:
        table[first : last + 1] = bytes([rate]) * (last + 1 - first)
    return bytes(table)


_TABLE = _table()
_CONTINUATION = bytes(range(0x80, 0xC0))
"""The further bytes of a character."""
_PAIR = 83
"""What two spaces in a row count less: an indent is no words."""


def text_tokens(text: str) -> int:
    """Estimate the tokens of a text from its characters; of a long one from samples of it."""
    length = len(text)
    if length <= _WHOLE_CHARS:
        return _units(text) // _UNIT
    step = length // _NUM_SAMPLES
    free = step - _SAMPLE_CHARS + 1
    begins = [number * step + number * _STRIDE % free for number in range(_NUM_SAMPLES)]
    sample = "".join([text[begin : begin + _SAMPLE_CHARS] for begin in begins])
    return _units(sample) * length // (len(sample) * _UNIT)


def _units(text: str) -> int:
    encoded = text.encode("utf-8", "surrogatepass")
    is_ascii = len(encoded) == len(text)
    rates = encoded.translate(_TABLE) if is_ascii else encoded.translate(_TABLE, _CONTINUATION)
    width = _ASCII_SLICE if is_ascii else _SLICE
    total = -_PAIR * encoded.count(b"  ")
    for at in range(0, len(rates), width):
        # the low half of Adler-32 is 1 and the sum of the bytes, added up in C
        total += (zlib.adler32(rates[at : at + width]) & 0xFFFF) - 1
    return total


_MIN_TOKENS = 32
"""Below, a prompt is mostly what the engine's chat template adds."""
_MAX_EXPECTED = 512
_MAX_PAIRS = 64
_FIT_EVERY = 8
_ODD = 3.0
_MIN_SPREAD = 0.15
"""Of the inverse lengths of prompts, about their mean."""
_FAR = 1.03
_BOUNDS = (1 / 8, 8.0)


class TokenScale:
    """Learns how many tokens the engine counts for one that is estimated.

    Not thread-safe: its owner holds the lock. One factor, so that weights estimated before and
    after it changed fit together; it is applied to what is told, not to the weights.

    | state    | invariant                                                              |
    |----------|------------------------------------------------------------------------|
    | expected | estimates of requests that no count came for yet, and what was put in  |
    |          | front of them; the oldest go first                                     |
    | pairs    | the latest estimates with their counts, one a request                  |

    Args:
        is_exact: weights come from the caller's tokenizer: nothing is learnt.
    """

    def __init__(self, is_exact: bool = False) -> None:
        self._is_exact = is_exact
        self._expected: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._pairs: deque[tuple[int, int]] = deque(maxlen=_MAX_PAIRS)
        self._num_counted = 0
        self._is_learnt = False
        self.ratio = 1.0
        """Tokens that the engine counts for each estimated one."""

    @property
    def source(self) -> Source:
        """Where the weights come from."""
        if self._is_exact:
            return "tokenizer"
        return "learnt" if self._is_learnt else "estimate"

    def scale(self, tokens: int) -> int:
        """Return estimated tokens as the engine would count them."""
        return tokens if self.ratio == 1.0 else round(tokens * self.ratio)

    def expect(self, request_id: str, estimate: int) -> None:
        """Remember the estimate of a request's whole prompt, unscaled."""
        if self._is_exact or estimate < _MIN_TOKENS:
            return
        self._expected[request_id] = estimate, 0
        if len(self._expected) > _MAX_EXPECTED:
            self._expected.popitem(last=False)

    def put_ahead(self, request_id: str, tokens: int) -> None:
        """Learn that a request was sent with so much in front of what was planned, unscaled."""
        if request_id in self._expected:
            self._expected[request_id] = self._expected[request_id][0], tokens

    def count(self, request_id: str, prompt_tokens: int) -> None:
        """Take the engine's count of a request's prompt; only the first of a request counts."""
        estimate = sum(self._expected.pop(request_id, ()))
        if not estimate or prompt_tokens < _MIN_TOKENS:
            return
        self._pairs.append((estimate, prompt_tokens))
        self._num_counted += 1
        if self._num_counted % _FIT_EVERY == 0:
            self._fit()

    def _fit(self) -> None:
        ratio = min(max(_ratio_of(self._pairs), _BOUNDS[0]), _BOUNDS[1])
        is_far = not 1 / _FAR < ratio / self.ratio < _FAR
        if is_far or not self._is_learnt:
            self.ratio = ratio
            self._is_learnt = True


def _ratio_of(pairs: Sequence[tuple[int, int]]) -> float:
    """Return the tokens counted for an estimated one, robust against odd counts.

    What the engine puts in front of every prompt alike (tools, a template) is no text of ours: it
    adds the more to a ratio the shorter the prompt is, so that prompts of different lengths tell it
    apart (a line through the ratios over one by the estimate).
    """
    ratios = [count / estimate for estimate, count in pairs]
    middle = median(ratios)
    points = [
        (1 / estimate, ratio)
        for (estimate, _), ratio in zip(pairs, ratios, strict=True)
        if 1 / _ODD < ratio / middle < _ODD
    ]
    mean_x, mean_y = mean(x for x, _ in points), mean(y for _, y in points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if spread < len(points) * (_MIN_SPREAD * mean_x) ** 2:
        return middle
    constant = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    return median(y - max(0.0, constant) * x for x, y in points)

"""A small BM25 index (Robertson and Zaragoza, 2009), for the demo's retrieval."""

from __future__ import annotations

import heapq
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

_K1 = 1.5
_B = 0.75
_WORD = re.compile(r"[a-z][a-z0-9]+")
_TOO_COMMON = """
an and are as at be by can do does for from go has have how if in is it its not of on or
should that the then there this to what when where which with you
"""
_STOP_WORDS = frozenset(_TOO_COMMON.split())


def words_of(text: str) -> list[str]:
    """Return the words of a text that count: lower case, split at underscores, no stop words."""
    return [word for word in _WORD.findall(text.lower()) if word not in _STOP_WORDS]


class Bm25Index:
    """Ranks texts by how well they match a question; equal scores keep the order of the texts.

    Args:
        words: returns the words of a text that count.
    """

    def __init__(self, texts: Sequence[str], words: Callable[[str], list[str]] = words_of) -> None:
        self._words_of = words
        self._postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        lengths = []
        for number, text in enumerate(texts):
            found = words(text)
            lengths.append(len(found))
            for word, count in Counter(found).items():
                self._postings[word].append((number, count))
        mean = sum(lengths) / len(lengths) if lengths else 1.0
        self._norms = [_K1 * (1 - _B + _B * length / max(1.0, mean)) for length in lengths]

    def search(self, question: str, top_k: int) -> list[int]:
        """Return the positions of the `top_k` texts that match best, best first."""
        scores: dict[int, float] = defaultdict(float)
        for word in dict.fromkeys(self._words_of(question)):
            found = self._postings.get(word, ())
            rarity = math.log(1 + (len(self._norms) - len(found) + 0.5) / (len(found) + 0.5))
            for number, count in found:
                scores[number] += rarity * count * (_K1 + 1) / (count + self._norms[number])
        return heapq.nsmallest(top_k, scores, key=lambda number: (-scores[number], number))

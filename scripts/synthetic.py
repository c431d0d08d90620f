"""Contexts as retrieval returns them: some documents in many of them, most in few."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def synthetic(contexts: int, blocks: int, pool: int, zipf: float, seed: int) -> list[list[int]]:
    """Return contexts of distinct blocks drawn by Zipf's law (Gumbel top-k), shuffled."""
    rng = np.random.default_rng(seed)
    logits = -zipf * np.log(np.arange(1, pool + 1))
    drawn: list[list[int]] = []
    while len(drawn) < contexts:
        keys = logits + rng.gumbel(size=(min(200, contexts - len(drawn)), pool))
        chosen = np.argpartition(-keys, blocks, axis=1)[:, :blocks]
        drawn += rng.permuted(chosen, axis=1).tolist()
    return drawn


def streamed(contexts: int, blocks: int, pool: int, zipf: float, seed: int) -> Iterator[list[int]]:
    """Yield contexts of the same distribution one by one, as quickly from a large pool.

    Documents are drawn with replacement, those that a context holds already being left out.
    """
    rng = np.random.default_rng(seed)
    share = np.cumsum(np.arange(1, pool + 1) ** -zipf)
    share /= share[-1]
    for first in range(0, contexts, 10_000):
        drawn = np.searchsorted(share, rng.random((min(10_000, contexts - first), 2 * blocks + 16)))
        for row in drawn.tolist():
            chosen = list(dict.fromkeys(row))
            while len(chosen) < blocks:
                more = np.searchsorted(share, rng.random(blocks)).tolist()
                chosen = list(dict.fromkeys(chosen + more))
            yield rng.permutation(chosen[:blocks]).tolist()

"""Contexts as retrieval returns them: some documents in many of them, most in few."""

from __future__ import annotations

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

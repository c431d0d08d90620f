"""Random batches, and which of them a device plans otherwise than the CPU: for tests and a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np

from contextpilot.plan.bounds import Bounds
from contextpilot.plan.overlaps import gpu, partners
from contextpilot.plan.overlaps.device import Device
from contextpilot.plan.overlaps.gpu import Gpu
from contextpilot.plan.tree import MergeTree, agglomerate


def always(pairs: float, cells: float) -> bool:
    """The device computes, however little it is."""
    return True


def batches(count: int) -> Iterator[tuple[list[np.ndarray], np.ndarray, Bounds, np.ndarray]]:
    """Random batches: sparse and dense, of equal weights (all ties) and of different ones."""
    draw = np.random.default_rng(11)
    for number in range(count):
        pool = int(draw.integers(3, 30))
        size = int(draw.integers(1, min(pool, 8) + 1))
        contexts = [
            draw.choice(pool, int(draw.integers(0, size + 1)), replace=False)
            for _ in range(int(draw.integers(2, 25)))
        ]
        weights = draw.integers(1, 3 if number % 2 else 400, pool)
        bounds = Bounds(displacement_cost=int(draw.choice([0, 50])), min_gain_tokens=1)
        yield contexts, weights, bounds, draw


def planned_otherwise(device: Device, count: int) -> Iterator[str]:
    """Yield which of so many random batches the device plans otherwise, or fails at.

    Every search is in several tiles, and of a third of the batches in a sample.
    """
    small = mock.patch.multiple(gpu, _MAX_TILE_BYTES=6_000)
    for number, (contexts, weights, bounds, _) in enumerate(batches(count)):
        exact = -1 if number % 3 == 0 else 60_000_000
        sampled = mock.patch.multiple(
            partners,
            _EXACT_PAIRS=exact,
            _EXACT_PAIRS_PER_SET=0,
            _SAMPLED_PAIRS=0,
            _PAIRS_PER_ROW=10,
        )
        with small, sampled:
            there = Gpu(device, always)
            found = told(agglomerate(contexts, weights, bounds, arithmetic=there))
            if there._device is None:
                yield f"batch {number}: the device failed, and the CPU took over"
            elif found != told(agglomerate(contexts, weights, bounds)):
                yield f"batch {number}: another plan"


def told(tree: MergeTree) -> Any:
    """Return all of a tree as what can be compared."""
    return tree.roots, tree.children, {k: v.tolist() for k, v in tree.shared.items()}

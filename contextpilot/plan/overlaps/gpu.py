"""Overlaps on a GPU: dense tiles of sums, of which only the strong pairs leave it.

A tile holds the overlaps of some searched sets with all sets, never of all with all. Weights are
integers, whose sums are exact in any order: so the pairs are those of the CPU, ties included.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from contextpilot.plan.overlaps.base import LEAST, Arithmetic, Ints, Pairs, pairs_by_row
from contextpilot.plan.overlaps.common import followed
from contextpilot.plan.overlaps.cpu import CPU
from contextpilot.plan.overlaps.device import Device, open_gpu

logger = logging.getLogger(__name__)

_MAX_TILE_BYTES = 1 << 30
_CELL_BYTES = 32
"""Of a cell of a tile: its sum, whether it is strong, and where it is then."""
_PAIR_BYTES = 56
"""Of a (set, block, set) pair while it is added up."""
SMALLEST_PAIRS = 10_000_000
"""A search of fewer takes the CPU a tenth of a second: not worth a measurement, for the first of
which in a process kernels are compiled or loaded, which takes seconds."""


class Gpu:
    """Computes overlaps where that is quicker; see `Arithmetic`.

    What it costs on either side is measured once. After a failure of the device, out of memory for
    example, everything is computed on the CPU.

    Args:
        device: None for the CPU alone.
        pays: tells by pairs and cells whether the device is quicker; default: as measured.
    """

    def __init__(
        self, device: Device | None, pays: Callable[[float, float], bool] | None = None
    ) -> None:
        self._device = device
        self._pays = pays

    def strong_pairs(
        self, searched: Any, postings: Any, own: Ints, share: float
    ) -> Iterator[Pairs]:
        """Yield who overlaps with each searched set by at least a part of its greatest overlap."""
        done = 0
        if self._device is not None and len(own):
            try:
                if self._is_worth_it(searched, postings):
                    for last, found in _by_tiles(self._device, searched, postings, own, share):
                        done = last
                        yield found
                    return
            except Exception as error:  # whatever a device does, the batch is planned
                self._device = None
                _say_why(error)
        for found in CPU.strong_pairs(searched[done:], postings, own[done:], share):
            yield found._replace(row=found.row + done)

    def _is_worth_it(self, searched: Any, postings: Any) -> bool:
        asked = np.bincount(searched.indices, minlength=searched.shape[1])
        total = float(asked @ followed(np.diff(postings.indptr)))
        if self._pays is None:
            if total < SMALLEST_PAIRS:
                return False
            assert self._device is not None
            self._pays = measured(self._device).pays
        return self._pays(total, float(searched.shape[0]) * postings.shape[1])


class Rates(NamedTuple):
    """What a search costs, in seconds: for a pair on the CPU; on the device at all, and a cell."""

    cpu_pair: float
    device_call: float
    device_cell: float

    def pays(self, pairs: float, cells: float) -> bool:
        """Return whether the device is quicker."""
        return self.cpu_pair * pairs > self.device_call + self.device_cell * cells


def measured(device: Device) -> Rates:
    """Return what searches cost here and there: one of 512,000 pairs, and one of a few."""
    numbers = np.arange(16_000) * 7919 % 500
    sets = sparse.csr_matrix((np.ones(16_000), numbers, np.arange(0, 16_001, 8)), shape=(2000, 500))
    postings, rows = sets.T.tocsr(), np.arange(2000)

    def here(count: int) -> float:
        return _seconds(_by_tiles(device, sets[:count], postings, rows[:count], 1.0))

    for count in (1, len(rows)):
        here(count)  # kernels are compiled when first used
    call, whole = here(1), here(len(rows))
    cpu = _seconds(CPU.strong_pairs(sets, postings, rows, 1.0))
    pairs = float(pairs_by_row(sets, postings).sum())
    return Rates(cpu / pairs, call, max(0.0, whole - call) / (len(rows) * postings.shape[1]))


def _seconds(work: Iterable[object]) -> float:
    start = time.perf_counter()
    deque(work, maxlen=0)
    return time.perf_counter() - start


def _by_tiles(
    device: Device, searched: Any, postings: Any, own: Ints, share: float
) -> Iterator[tuple[int, Pairs]]:
    """Yield how many rows are done, and the strong pairs of the latest."""
    search = _Search(device, searched, postings, own, share)
    for first, last in _tiles(device, pairs_by_row(searched, postings), postings.shape[1]):
        yield last, search.tile(first, last)


def _tiles(device: Device, pairs: Any, num_sets: int) -> Iterator[tuple[int, int]]:
    """Yield the rows of each tile, first and last + 1."""
    room = min(_MAX_TILE_BYTES, device.bytes // 2)
    ends = np.cumsum(pairs * _PAIR_BYTES + float(num_sets * _CELL_BYTES))
    first = 0
    while first < len(pairs):
        done = ends[first - 1] if first else 0.0
        last = max(first + 1, int(np.searchsorted(ends, done + room, side="right")))
        yield first, last
        first = last


class _Search:
    """One search on a device: who holds each block is there from the start."""

    def __init__(
        self, device: Device, searched: Any, postings: Any, own: Ints, share: float
    ) -> None:
        self._device = device
        self._searched = searched
        self._own = own
        self._share = share
        self._num_sets = postings.shape[1]
        self._starts = postings.indptr.astype(np.int64)
        with device.memory():
            self._holders = device.xp.asarray(postings.indices.astype(np.int64))

    def tile(self, first: int, last: int) -> Pairs:
        """Return the strong pairs of some rows."""
        with self._device.memory():
            cells = self._sums(first, last)
            if cells is None:
                return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
            xp, to_host = self._device.xp, self._device.to_host
            cells[xp.arange(last - first), xp.asarray(self._own[first:last])] = 0
            least = xp.maximum(cells.max(axis=1) * self._share, LEAST)
            at = xp.flatnonzero(cells >= least[:, None])
            overlaps, at = to_host(cells.ravel()[at]), to_host(at)
        return Pairs(first + at // self._num_sets, at % self._num_sets, overlaps)

    def _sums(self, first: int, last: int) -> Any:
        """Return the overlaps of some rows with all sets; None if nobody holds their blocks.

        Every (set, block, set) pair is one number: which entry of the rows it belongs to is found
        by where it lies between the ends of their runs.
        """
        xp, starts = self._device.xp, self._starts
        rows = self._searched[first:last]
        counts = starts[rows.indices + 1] - starts[rows.indices]
        ends = np.cumsum(counts)
        if not len(ends) or not ends[-1]:
            return None
        row = np.repeat(np.arange(last - first) * self._num_sets, np.diff(rows.indptr))
        pair = xp.arange(int(ends[-1]))
        entry = xp.searchsorted(xp.asarray(ends), pair, side="right")
        holder = self._holders[pair + xp.asarray(starts[rows.indices] - (ends - counts))[entry]]
        cell = xp.asarray(row)[entry] + holder
        size = (last - first) * self._num_sets
        weights = xp.asarray(rows.data.astype(np.float64))
        sums = xp.bincount(cell, weights=weights[entry], minlength=size)
        return sums.reshape(last - first, self._num_sets)


def gpu_or_cpu() -> Arithmetic:
    """Return the GPU where there is one, else the CPU, and say so in one line of the log."""
    try:
        return Gpu(open_gpu())
    except Exception as error:  # CuPy raises its own, and what the driver tells
        _say_why(error)
        return CPU


def _say_why(error: Exception) -> None:
    reason = (str(error).splitlines() or [""])[0] or type(error).__name__
    logger.warning("use_gpu=True: overlaps are computed on the CPU, not on a GPU: %s", reason)

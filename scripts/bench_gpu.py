"""Print what the overlaps of a batch take on the CPU and on a GPU, in the shape of the reference.

    python scripts/bench_gpu.py [--sizes 128 1000 12000 100000] [--numpy]

Contexts of 20 of 1,000 blocks, all equally likely. Per size: whole plans, CPU and GPU by turns, and
whether the plans are the same; then one search of all with all. It needs the extra `gpu` and a GPU.
`--numpy` lets NumPy compute in CuPy's place: that shows that it runs and that the plans are equal,
and says nothing of a GPU's speed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
from machine import machine_line

from contextpilot.errors import CommandError
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.overlaps.base import Arithmetic, set_matrix
from contextpilot.plan.overlaps.cpu import CPU
from contextpilot.plan.overlaps.device import Device, open_gpu
from contextpilot.plan.overlaps.gpu import Gpu, measured
from contextpilot.plan.overlaps.partners import find_partners
from contextpilot.plan.tree import MergeTree, agglomerate

BLOCKS, POOL, TOKENS = 20, 1_000, 256
SIZES = (128, 512, 2_000, 12_000, 100_000)


def contexts_of(count: int) -> list[Any]:
    """Return contexts of distinct blocks, all equally likely."""
    draw = np.random.default_rng(7)
    return [draw.choice(POOL, BLOCKS, replace=False) for _ in range(count)]


def planned(contexts: Sequence[Any], arithmetic: Arithmetic) -> tuple[float, MergeTree]:
    """Return the seconds that planning a batch takes, and its tree."""
    start = time.perf_counter()
    weights = np.full(POOL, TOKENS)
    tree = agglomerate(contexts, weights, Bounds(), arithmetic=arithmetic)
    return time.perf_counter() - start, tree


def searched(contexts: Sequence[Any], arithmetic: Arithmetic) -> float:
    """Return the seconds that one search of all with all takes."""
    sets, rows = set_matrix(contexts, POOL), np.arange(len(contexts))
    start = time.perf_counter()
    find_partners(sets, np.full(POOL, TOKENS), rows, rows, arithmetic)
    return time.perf_counter() - start


def is_same(one: MergeTree, other: MergeTree) -> bool:
    """Return whether two trees are the same, node by node."""
    return (one.roots, one.children) == (other.roots, other.children) and all(
        np.array_equal(shared, other.shared[node]) for node, shared in one.shared.items()
    )


def device_of(is_numpy: bool) -> Device:
    """Return what computes; raises CommandError that says what is missing."""
    if is_numpy:
        return Device("NumPy in CuPy's place: NOT a GPU", np, np.asarray, nullcontext, 1 << 30)
    try:
        return open_gpu()
    except Exception as error:
        raise CommandError(f"no GPU can be used ({error}); --numpy runs without one") from error


def main() -> None:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--numpy", action="store_true", help="NumPy in CuPy's place")
    arguments = parser.parse_args()
    device = device_of(arguments.numpy)
    print(machine_line("numpy", "scipy", "cupy-cuda12x", "cupy-cuda13x"))
    print(f"device: {device.name}, at most {device.bytes / 2**30:.1f} GB")
    rates = measured(device)
    print(
        f"measured: {1e9 * rates.cpu_pair:.1f} ns a pair on the CPU; on the device "
        f"{1e3 * rates.device_call:.2f} ms a search and {1e9 * rates.device_cell:.2f} ns a cell"
    )
    print("contexts: plan CPU s, plan device s, by choice s, same plan; a search CPU s, device s")
    for size in arguments.sizes:
        contexts = contexts_of(size)
        always = Gpu(device, lambda _pairs, _cells: True)
        cpu, tree = planned(contexts, CPU)
        there, other = planned(contexts, always)
        chosen, third = planned(contexts, Gpu(device, rates.pays))
        same = is_same(tree, other) and is_same(tree, third)
        print(
            f"{size:9,}: {cpu:.2f}, {there:.2f}, {chosen:.2f}, {'yes' if same else 'NO'}; "
            f"{searched(contexts, CPU):.3f}, {searched(contexts, always):.3f}",
            flush=True,
        )


if __name__ == "__main__":
    import plainly

    plainly.run(main)

"""Print what batches take on the CPU and on a GPU, and whether their plans are the same.

    python scripts/bench_gpu.py [--check 1000] [--sizes 128 ...] [--large 100000 ...]
        [--seconds 330] [--numpy]

First random batches (`--check`), small ones of many ties, each computed on the GPU however little
it is: as many as are planned otherwise than on the CPU. Then batches in the shape of the reference
(`--sizes`: 20 of 1,000 blocks, all equally likely), and large ones (`--large`: 15 of 200,000
blocks, Zipf 0.8): seconds by the clock for whole plans through `plan_stream` on the CPU, with all
searches on the GPU, and by choice as `use_gpu=True` does; then one search of all with all. What
would end after `--seconds` by the size before it is left out. Memory is the process's peak and what
is in use on the GPU. It needs the extra `gpu` and a GPU; `--numpy` lets NumPy compute in CuPy's
place: that shows that it runs and that plans are equal, and says nothing of a GPU's speed.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "tests" / "plan")]

from gpu_batches import always, planned_otherwise  # noqa: E402
from machine import machine_line  # noqa: E402
from synthetic import streamed  # noqa: E402

from contextpilot import plan_stream, stream  # noqa: E402
from contextpilot.errors import CommandError  # noqa: E402
from contextpilot.plan.overlaps.base import Arithmetic, num_pairs, set_matrix  # noqa: E402
from contextpilot.plan.overlaps.cpu import CPU  # noqa: E402
from contextpilot.plan.overlaps.device import Device, open_gpu  # noqa: E402
from contextpilot.plan.overlaps.gpu import SMALLEST_PAIRS, Gpu, Rates, measured  # noqa: E402
from contextpilot.plan.overlaps.partners import find_partners  # noqa: E402

BLOCKS, POOL, TOKENS = 20, 1_000, 256
SIZES = (128, 512, 2_000, 12_000, 100_000)
GROWTH = {"choice": 1.1, "CPU": 1.1, "GPU": 2.0}
"""A larger batch is taken to need the time of the one before, times its size to this power."""


class Shape(NamedTuple):
    """Contexts of one kind, and how many blocks there are."""

    name: str
    pool: int
    contexts: Callable[[int], list[list[int]]]


def uniform(count: int) -> list[list[int]]:
    """Return contexts in the shape of the reference."""
    draw = np.random.default_rng(7)
    return [draw.choice(POOL, BLOCKS, replace=False).tolist() for _ in range(count)]


REFERENCE = Shape("20 of 1,000 blocks", POOL, uniform)
LARGE = Shape(
    "15 of 200,000 blocks, Zipf 0.8",
    200_000,
    lambda count: list(streamed(count, 15, 200_000, 0.8, 7)),
)


class Bench:
    """Times one size after the other, within the time that there is."""

    def __init__(self, device: Device, rates: Rates, ends: float) -> None:
        self._device = device
        self._ends = ends
        self._before: dict[str, tuple[int, float]] = {}
        self._sides: dict[str, Callable[[], Arithmetic]] = {
            "choice": lambda: Gpu(device, partial(is_given, rates)),
            "CPU": lambda: CPU,
            "GPU": lambda: Gpu(device, always),
        }

    def run(self, shape: Shape, sizes: Sequence[int]) -> None:
        """Print a line for each size, side by side as they come."""
        self._before = {}
        for size in sizes:
            print(f"{shape.name}, {size:,} contexts:", end=" ", flush=True)
            contexts, plans = shape.contexts(size), []
            for side, arithmetic in self._sides.items():
                if self._is_too_long(size, side):
                    print(f"{side} left out;", end=" ", flush=True)
                    continue
                seconds, plan = planned(contexts, arithmetic())
                self._before[side] = size, seconds
                plans.append(plan)
                print(f"{side} {seconds:.3f} s;", end=" ", flush=True)
            same = all(plan == plans[0] for plan in plans)
            told = ("same plans" if same else "OTHER PLANS") if len(plans) > 1 else "not compared"
            print(f"{told}; {self._memory()}", flush=True)
            if not self._is_too_long(size, "GPU"):
                self._search(contexts, shape.pool)

    def _search(self, contexts: list[list[int]], pool: int) -> None:
        """Print what one search of all with all takes."""
        sets = set_matrix([np.array(numbers) for numbers in contexts], pool)
        print(f"    a search of {len(contexts) ** 2:.2e} cells,", end=" ")
        print(f"{num_pairs(sets):.2e} pairs (all of them):", end=" ", flush=True)
        for side in ("GPU", "CPU"):
            rows, start = np.arange(len(contexts)), time.perf_counter()
            find_partners(sets, np.full(pool, TOKENS), rows, rows, self._sides[side]())
            print(f"{side} {time.perf_counter() - start:.4f} s;", end=" ", flush=True)
        print(flush=True)

    def _is_too_long(self, size: int, side: str) -> bool:
        """Return whether it would end too late, by the size before."""
        last, seconds = self._before.get(side, (size, 0.0))
        expected = seconds * (size / last) ** GROWTH[side]
        return time.perf_counter() + expected > self._ends

    def _memory(self) -> str:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        if self._device.xp is np:
            return f"peak {peak:.2f} GB"
        free, total = self._device.xp.cuda.runtime.memGetInfo()
        return f"peak {peak:.2f} GB, on the GPU {(total - free) / 2**30:.2f} GB"


def planned(contexts: list[list[int]], arithmetic: Arithmetic) -> tuple[float, list[Any]]:
    """Return the seconds that planning a batch takes, and the plan."""
    with mock.patch.object(stream, "arithmetic_of", return_value=arithmetic):
        start = time.perf_counter()
        steps = list(plan_stream(contexts))
    if isinstance(arithmetic, Gpu) and arithmetic._device is None:
        print("FAILED on the GPU, so", end=" ")
    return time.perf_counter() - start, steps


def is_given(rates: Rates, pairs: float, cells: float) -> bool:
    """Return whether a search is given to the GPU by default."""
    return pairs >= SMALLEST_PAIRS and rates.pays(pairs, cells)


def pays_from(rates: Rates) -> Iterator[str]:
    """Yield from how many contexts on a search of all with all is given to the GPU."""
    for size in (1 << power for power in range(5, 21)):
        if is_given(rates, size**2 * BLOCKS**2 / POOL, size**2):
            yield f"in the shape of the reference from some {size:,} contexts on"
            return
    yield "in the shape of the reference for no number of contexts"


def device_of(is_numpy: bool) -> Device:
    """Return what computes; raises CommandError that says what is missing."""
    if is_numpy:
        return Device("NumPy in CuPy's place: NOT a GPU", np, np.asarray, nullcontext, 1 << 30)
    try:
        device = open_gpu()
    except Exception as error:
        raise CommandError(f"no GPU can be used ({error}); --numpy runs without one") from error
    runtime = device.xp.cuda.runtime
    name = runtime.getDeviceProperties(device.xp.cuda.Device().id)["name"].decode()
    versions = f"CUDA runtime {runtime.runtimeGetVersion()}, driver {runtime.driverGetVersion()}"
    return device._replace(name=f"{name}, {versions}")


def main() -> None:
    """Print the check, then a line for each size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", type=int, default=1_000, help="so many random batches")
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES)
    parser.add_argument("--large", nargs="*", type=int, default=())
    parser.add_argument("--seconds", type=float, default=330.0)
    parser.add_argument("--numpy", action="store_true", help="NumPy in CuPy's place")
    arguments = parser.parse_args()
    ends = time.perf_counter() + arguments.seconds
    device = device_of(arguments.numpy)
    print(machine_line("numpy", "scipy", "cupy-cuda12x", "cupy-cuda13x"))
    print(f"device: {device.name}, at most {device.bytes / 2**30:.1f} GB", flush=True)
    start = time.perf_counter()
    rates = measured(device)
    print(
        f"measured in {time.perf_counter() - start:.1f} s: {1e9 * rates.cpu_pair:.1f} ns a pair on "
        f"the CPU; on the device {1e3 * rates.device_call:.2f} ms a search and "
        f"{1e9 * rates.device_cell:.3f} ns a cell; so it computes {next(pays_from(rates))}",
        flush=True,
    )
    start = time.perf_counter()
    other = list(planned_otherwise(device, arguments.check))
    print(
        f"{arguments.check:,} random batches in {time.perf_counter() - start:.1f} s: "
        f"{len(other)} planned otherwise {other[:3]}",
        flush=True,
    )
    planned(uniform(8), CPU)  # what is imported when first used
    bench = Bench(device, rates, ends)
    bench.run(REFERENCE, arguments.sizes)
    bench.run(LARGE, arguments.large)


if __name__ == "__main__":
    import plainly

    plainly.run(main)

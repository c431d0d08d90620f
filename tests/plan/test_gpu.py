"""The GPU's path with NumPy in CuPy's place: the CPU's plans, ties included, whatever happens."""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
from gpu_batches import always, batches, planned_otherwise

from contextpilot.plan.overlaps import cpu, gpu
from contextpilot.plan.overlaps.base import Arithmetic, set_matrix, weighed
from contextpilot.plan.overlaps.cpu import CPU
from contextpilot.plan.overlaps.device import Device, open_gpu
from contextpilot.plan.overlaps.gpu import Gpu, Rates, gpu_or_cpu, measured

USED_OF_CUPY = {"arange", "asarray", "bincount", "flatnonzero", "maximum", "searchsorted"}
"""All in CuPy 12 to 14. `maximum` of two arrays; `bincount` of none would fail there."""


class OnlyWhatCupyHas:
    """NumPy, as far as CuPy behaves the same; fails where that would."""

    def __getattr__(self, name: str) -> Any:
        assert name in USED_OF_CUPY, f"whether CuPy has {name} is not known"
        return getattr(np, name)

    def bincount(self, x: Any, weights: Any, minlength: int) -> Any:
        assert len(x) == len(weights) > 0 < minlength
        return np.bincount(x, weights, minlength)

    def searchsorted(self, a: Any, v: Any, side: str) -> Any:
        assert isinstance(a, np.ndarray)
        assert isinstance(v, np.ndarray)
        return np.searchsorted(a, v, side=side)


def numpy_device(num_bytes: int = 1 << 30) -> Device:
    return Device("NumPy", OnlyWhatCupyHas(), np.asarray, nullcontext, num_bytes)


def strong(arithmetic: Arithmetic, sets: Any, weights: Any, rows: Any, share: float) -> list[Any]:
    """The pairs row by row, by column."""
    chunks = arithmetic.strong_pairs(weighed(sets[rows], weights), sets.T.tocsr(), rows, share)
    triples = [triple for chunk in chunks for triple in np.stack(chunk, 1).tolist()]
    assert [t[0] for t in triples] == sorted(t[0] for t in triples)
    return sorted(triples)


def test_plans_are_the_same_on_a_thousand_random_batches() -> None:
    assert list(planned_otherwise(numpy_device(), 1_000)) == []


def test_a_device_that_computes_or_fails_otherwise_is_told_of() -> None:
    class Miscounts(OnlyWhatCupyHas):
        def bincount(self, x: Any, weights: Any, minlength: int) -> Any:
            return super().bincount(x, weights[::-1], minlength)

    device = numpy_device()
    [*other] = planned_otherwise(device._replace(xp=Miscounts()), 30)
    assert any("another plan" in line for line in other)
    [*failed] = planned_otherwise(device._replace(xp=Breaks(2, MemoryError())), 30)
    assert any("failed" in line for line in failed)


def test_pairs_are_the_same_at_every_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_CHUNK_PAIRS", 40)
    for contexts, weights, _, draw in batches(200):
        sets = set_matrix(contexts, len(weights))
        rows = draw.permutation(len(contexts))[: int(draw.integers(0, len(contexts) + 1))]
        share = float(draw.choice([0.0, 0.51, 0.7, 1.0]))
        monkeypatch.setattr(gpu, "_MAX_TILE_BYTES", int(draw.choice([1, 3_000, 1 << 30])))
        device = Gpu(numpy_device(), always)
        assert strong(device, sets, weights, rows, share) == strong(CPU, sets, weights, rows, share)
        assert device._device is not None


def big_search() -> tuple[Any, Any, Any]:
    draw = np.random.default_rng(5)
    contexts = [draw.choice(40, 6, replace=False) for _ in range(60)]
    return set_matrix(contexts, 40), draw.integers(1, 99, 40), np.arange(60)


class Breaks(OnlyWhatCupyHas):
    """A device that is lost, or has no memory left, after so many tiles."""

    def __init__(self, after: int, error: Exception) -> None:
        self.left = after
        self.error = error

    def bincount(self, x: Any, weights: Any, minlength: int) -> Any:
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().bincount(x, weights, minlength)


@pytest.mark.parametrize(
    "error",
    [MemoryError("Out of memory allocating 8 bytes"), RuntimeError("cudaErrorDeviceLost: gone")],
    ids=["memory", "lost"],
)
@pytest.mark.parametrize("after", [0, 2])
def test_a_device_that_fails_is_let_go_and_the_search_goes_on(
    after: int, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gpu, "_MAX_TILE_BYTES", 20_000)
    device = Gpu(numpy_device()._replace(xp=Breaks(after, error)), always)
    expected = strong(CPU, *big_search(), 0.7)
    for _ in range(2):
        assert strong(device, *big_search(), 0.7) == expected
    [record] = caplog.records
    assert record.name.startswith("contextpilot.")
    assert record.levelno == logging.WARNING
    assert str(error) in record.getMessage()


def test_tiles_stay_within_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    cells: list[int] = []

    class Noting(OnlyWhatCupyHas):
        def bincount(self, x: Any, weights: Any, minlength: int) -> Any:
            cells.append(minlength)
            return super().bincount(x, weights, minlength)

    device = numpy_device(100_000)._replace(xp=Noting())
    strong(Gpu(device, always), *big_search(), 0.7)
    assert len(cells) > 1
    assert max(cells) * gpu._CELL_BYTES <= 50_000
    assert sum(cells) == 60 * 60


def test_it_is_used_where_that_is_measured_to_be_quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = Rates(cpu_pair=1e-8, device_call=1e-3, device_cell=1e-9)
    assert not rates.pays(50_000, 400_000)
    assert not rates.pays(1_000_000, 10_000_000)
    assert rates.pays(1_000_000, 1_000_000)
    found = measured(numpy_device())
    assert found.cpu_pair > 0 < found.device_call
    assert found.device_cell >= 0

    asked: list[int] = []
    monkeypatch.setattr(gpu, "measured", lambda device: asked.append(1) or rates)
    device = Gpu(numpy_device())
    strong(device, *big_search(), 0.7)
    assert not asked, "too small a search to ask"
    monkeypatch.setattr(gpu, "SMALLEST_PAIRS", 10)
    for _ in range(2):
        strong(device, *big_search(), 0.7)
    assert len(asked) == 1


def test_a_device_that_fails_when_it_is_measured_is_let_go(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gpu, "SMALLEST_PAIRS", 10)
    device = Gpu(numpy_device()._replace(xp=Breaks(0, RuntimeError("no kernel image"))))
    assert strong(device, *big_search(), 0.7) == strong(CPU, *big_search(), 0.7)
    assert device._device is None
    [record] = caplog.records
    assert "no kernel image" in record.getMessage()


class Cupy(types.ModuleType):
    """What `open_gpu` asks of CuPy."""

    def __init__(self, num_devices: int = 1, free: int = 8 << 30) -> None:
        super().__init__("cupy")
        self.limit = 0
        self.allocators: list[Any] = []
        self.arange, self.asnumpy, self.asarray = np.arange, np.asarray, np.asarray
        runtime = types.SimpleNamespace(
            getDeviceCount=lambda: num_devices, memGetInfo=lambda: (free, 2 * free)
        )
        self.cuda = types.SimpleNamespace(
            runtime=runtime,
            MemoryPool=lambda: self,
            Device=lambda: types.SimpleNamespace(id=0),
            using_allocator=self.using_allocator,
        )

    def set_limit(self, size: int) -> None:
        self.limit = size

    def malloc(self, size: int) -> Any:
        raise NotImplementedError

    @contextmanager
    def using_allocator(self, allocator: Any) -> Iterator[None]:
        self.allocators.append(allocator)
        yield


def test_a_gpu_is_opened_with_a_bounded_pool_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    cupy = Cupy()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    device = open_gpu()
    assert cupy.limit == device.bytes == 4 << 30
    with device.memory():
        assert cupy.allocators[-1] == cupy.malloc
    assert isinstance(gpu_or_cpu(), Gpu)


@pytest.mark.parametrize("what", ["absent", "no device"])
def test_without_a_gpu_one_line_says_so(
    what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module = None if what == "absent" else Cupy(num_devices=0)
    monkeypatch.setitem(sys.modules, "cupy", module)
    assert gpu_or_cpu() is CPU
    [record] = caplog.records
    assert "CPU" in record.getMessage()

"""A device that computes with arrays: CuPy's, of which NumPy can take the place.

What is used of CuPy is in its versions 12 to 14, whichever CUDA they are built for.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

_SHARE_OF_FREE = 0.5
"""What is free now may be wanted by an engine beside us, so a part is left."""


class Device(NamedTuple):
    """A place to compute.

    Attributes:
        name: for people.
        xp: its arrays, as NumPy's interface.
        to_host: returns one of them as an array of NumPy.
        memory: a context in which its arrays are made; they take `bytes` together at most.
    """

    name: str
    xp: Any
    to_host: Callable[[Any], Any]
    memory: Callable[[], AbstractContextManager[Any]]
    bytes: int


def open_gpu() -> Device:
    """Return the current GPU.

    Raises:
        ImportError: CuPy is not installed.
        Exception: whatever CuPy raises where no GPU can be used.
    """
    import cupy

    if cupy.cuda.runtime.getDeviceCount() < 1:
        raise RuntimeError("there is no GPU")
    free, _ = cupy.cuda.runtime.memGetInfo()
    limit = int(free * _SHARE_OF_FREE)
    pool = cupy.cuda.MemoryPool()
    pool.set_limit(size=limit)

    def memory() -> Any:
        return cupy.cuda.using_allocator(pool.malloc)

    with memory():
        if int(cupy.arange(3).sum()) != 3:
            raise RuntimeError("the GPU computes wrong sums")
    return Device(f"GPU {cupy.cuda.Device().id}", cupy, cupy.asnumpy, memory, limit)

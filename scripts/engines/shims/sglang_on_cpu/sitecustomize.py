"""SGLang's hybrid models on a CPU, where 0.5.23 lacks kernels or reads the wrong place.

Put this folder on `PYTHONPATH`. What follows the cache only sees the scheduler and its trees, which
stay as they are.

| what               | as SGLang has it                   | here                            |
|--------------------|------------------------------------|---------------------------------|
| short convolutions | Triton, which knows no CPU         | PyTorch                         |
| sliding windows    | torch_native reads their cache at  | at the places where it was      |
|                    | the places of full attention's     | written                         |
| random weights     | of 0.001 at most: an answer tells  | of 0.2 at most                  |
|                    | the last token, and nothing more   |                                 |
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import itertools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


class _Patches(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Calls a function with a module once that is imported."""

    def __init__(self, name: str, patch: Callable[[Any], None]) -> None:
        self._name = name
        self._patch = patch

    def find_spec(self, name: str, *_: Any) -> Any:
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        found = importlib.util.find_spec(name)
        if found is None or found.loader is None:
            return None
        self._original = found.loader
        found.loader = self
        return found

    def create_module(self, spec: Any) -> ModuleType | None:
        return self._original.create_module(spec)

    def exec_module(self, module: Any) -> None:
        self._original.exec_module(module)
        self._patch(module)


def use_pytorch(kernels: Any) -> None:
    """Let short convolutions run without Triton."""
    kernels.causal_conv1d_fn, kernels.causal_conv1d_update = prefill, decode


def read_windows(backend: Any) -> None:
    """Let sliding layers read where the pool wrote."""
    attention = backend.TorchNativeAttnBackend
    for name in ("_run_sdpa_forward_extend", "_run_sdpa_forward_decode"):
        setattr(attention, name, _translated(getattr(attention, name)))


def draw_widely(loading: Any) -> None:
    """Let random weights make something of a whole prompt."""
    loading.initialize_dummy_weights = functools.partial(
        loading.initialize_dummy_weights, low=-0.2, high=0.2
    )


def _translated(run: Any) -> Any:
    @functools.wraps(run)
    def translated(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.use_sliding_window_kv_pool and kwargs.get("sliding_window_size") is not None:
            query, output, keys, values, places, *rest = args
            places = self.token_to_kv_pool.translate_loc_from_full_to_swa(places)
            args = query, output, keys, values, places, *rest
        return run(self, *args, **kwargs)

    return translated


def prefill(
    x: Any,
    weight: Any,
    bias: Any = None,
    conv_states: Any = None,
    query_start_loc: Any = None,
    cache_indices: Any = None,
    has_initial_state: Any = None,
    activation: str | None = "silu",
    **_: Any,
) -> Any:
    """Prompts, one after the other along the last axis of `x`; their states are written."""
    import torch

    out, ends = torch.empty_like(x), query_start_loc.tolist()
    width = weight.shape[1] - 1
    for number, (start, end) in enumerate(itertools.pairwise(ends)):
        state = conv_states[cache_indices[number]]
        before = state if has_initial_state is not None and has_initial_state[number] else 0 * state
        line = torch.cat([before[:, -width:].to(x.dtype), x[:, start:end]], 1)
        out[:, start:end] = _convolved(line, weight, bias, activation)
        state.copy_(line[:, -width:])
    return out


def decode(
    x: Any,
    conv_state: Any,
    weight: Any,
    bias: Any = None,
    activation: str | None = None,
    cache_seqlens: Any = None,  # noqa: ARG001
    conv_state_indices: Any = None,
    **_: Any,
) -> Any:
    """One more token for each request."""
    import torch

    out, width = torch.empty_like(x), weight.shape[1] - 1
    for number, place in enumerate(conv_state_indices.tolist()):
        if place < 0:
            continue
        state = conv_state[place]
        line = torch.cat([state[:, -width:].to(x.dtype), x[number][:, None]], 1)
        out[number] = _convolved(line, weight, bias, activation)[:, 0]
        state.copy_(line[:, -width:])
    return out


def _convolved(line: Any, weight: Any, bias: Any, activation: str | None) -> Any:
    import torch

    out = torch.nn.functional.conv1d(line[None], weight[:, None], bias, groups=len(weight))[0]
    return torch.nn.functional.silu(out) if activation in ("silu", "swish") else out


sys.meta_path[:0] = (
    _Patches("sglang.kernels.ops.mamba.causal_conv1d_triton", use_pytorch),
    _Patches("sglang.srt.layers.attention.torch_native_backend", read_windows),
    _Patches("sglang.srt.model_loader.weight_utils", draw_widely),
)

"""A real SGLang prefix cache of any version and its scheduler, without model and device."""

from __future__ import annotations

import functools
import inspect
import os
import types
from array import array
from typing import Any

CAPACITY = 600


def call(function: Any, **known: Any) -> Any:
    """Call with those of `known` that `function` takes."""
    parameters = inspect.signature(function).parameters
    return function(**{name: value for name, value in known.items() if name in parameters})


class Slots:
    """Stands in for the allocator of cache slots: there is no device memory behind them."""

    device = "cpu"

    def __init__(self, capacity: int) -> None:
        self.cache: Any = None
        self.capacity = capacity

    def free(self, *_: object, **__: object) -> None:
        """Nothing is held."""

    free_segment = free_segments = free_full_segment = free

    def available_size(self) -> int:
        return self.capacity - self.cache.evictable_size() - self.cache.protected_size()

    def mamba_full_cache_donor(self) -> None:
        return None

    def get_kvcache(self) -> None:
        return None


class Driver:
    """One cache of the version under test and its scheduler."""

    def __init__(
        self, page_size: int, core: str, capacity: int = CAPACITY, eagle: bool = False
    ) -> None:
        self.base = __import__("sglang.srt.mem_cache.base_prefix_cache", fromlist=["x"])
        self.radix = __import__("sglang.srt.mem_cache.radix_cache", fromlist=["x"])
        self.page_size = page_size
        self.core = core
        self.eagle = eagle
        slots = self._make_slots(capacity)
        self.cache = self._unified(slots) if core else self._radix(slots)
        slots.cache = self.cache
        radix_key = getattr(self.radix, "RadixKey", None)
        hints = str(inspect.signature(radix_key).parameters["token_ids"]) if radix_key else ""
        self.pack = (lambda tokens: array("q", tokens)) if "array" in hints else list
        self.scheduler: Any = None
        self.evicted_tokens = 0

    def _make_slots(self, capacity: int) -> Slots:
        return Slots(capacity)

    def _parameters(self, slots: Slots, **more: Any) -> dict[str, Any]:
        known = {
            "req_to_token_pool": types.SimpleNamespace(),
            "token_to_kv_pool_allocator": slots,
            "page_size": self.page_size,
            "disable": False,
            "is_eagle": self.eagle,
        }
        return {**known, **more}

    def _radix(self, slots: Slots) -> Any:
        make = self.radix.RadixCache
        if "params" not in inspect.signature(make).parameters:
            return call(make, **self._parameters(slots))
        params = __import__("sglang.srt.mem_cache.cache_init_params", fromlist=["x"])
        return make(params=call(params.CacheInitParams, **self._parameters(slots)))

    def _unified(self, slots: Slots) -> Any:
        unified = __import__("sglang.srt.mem_cache.unified_radix_cache", fromlist=["x"])
        kinds = __import__("sglang.srt.mem_cache.unified_cache.component_type", fromlist=["x"])
        params = __import__("sglang.srt.mem_cache.cache_init_params", fromlist=["x"])
        full = {"tree_components": (kinds.ComponentType.FULL,)}
        known = {**full, **self._parameters(slots, tree_core_backend=self.core)}
        os.environ["SGLANG_UNIFIED_RADIX_TREE_CORE_BACKEND"] = self.core
        return unified.UnifiedRadixCache(call(params.CacheInitParams, **known))

    def start_scheduler(self, **ranks: Any) -> None:
        """Attach the hook and make the version's Scheduler, without model and sockets."""
        from contextpilot_hooks import importhook
        from contextpilot_hooks.sglang import attach

        module = __import__("sglang.srt.managers.scheduler", fromlist=["x"])
        attach(module)  # to the class as it is: its shape has to be right
        importhook.reset()
        known = {"attn_tp_rank": 0, "attn_cp_rank": 0, "pp_rank": 0, "dp_rank": None, **ranks}

        def build(scheduler: Any) -> None:
            scheduler.waiting_queue = []
            scheduler.tree_cache = self.cache
            vars(scheduler).update(known)

        @functools.wraps(module.Scheduler._add_request_to_queue)
        def add(scheduler: Any, req: Any, *_: object, **__: object) -> None:
            scheduler.waiting_queue.append(req)

        module.Scheduler.__init__, module.Scheduler._add_request_to_queue = build, add
        attach(module)
        self.scheduler = module.Scheduler()

    def key(self, tokens: list[int]) -> Any:
        units = (len(tokens) - self.eagle) // self.page_size * self.page_size
        aligned = self.pack(tokens[: units + self.eagle] if units > 0 else [])
        radix_key = getattr(self.radix, "RadixKey", None)
        if radix_key is None:
            return aligned
        # A pair of tokens is a view of them from 0.5.11 on; before, the cache converts the key.
        views = self.eagle and hasattr(radix_key, "maybe_to_bigram_view")
        return radix_key(aligned, None, is_bigram=True) if views else radix_key(aligned, None)

    def match(self, tokens: list[int]) -> int:
        key = self.key(tokens)
        if "params" in inspect.signature(type(self.cache).match_prefix).parameters:
            found = self.cache.match_prefix(self.base.MatchPrefixParams(key=key))
        else:
            found = self.cache.match_prefix(key)
        return self.length_of(found)

    def length_of(self, found: Any) -> int:
        """The units that a match found on the device."""
        length = getattr(found, "device_prefix_len", None)
        return len(found.device_indices) if length is None else int(length)

    def insert(self, tokens: list[int]) -> None:
        import torch

        key = self.key(tokens)
        value = torch.arange(len(getattr(key, "token_ids", key)), dtype=torch.int64)
        if "params" in inspect.signature(type(self.cache).insert).parameters:
            self.cache.insert(self.base.InsertParams(key=key, value=value))
        else:
            self.cache.insert(key, value)

    def make_room(self, tokens: int) -> None:
        short = tokens - self.cache.token_to_kv_pool_allocator.available_size()
        if short <= 0:
            return
        held = self.cache.evictable_size()
        name = "evict_for_alloc" if hasattr(self.cache, "evict_for_alloc") else "evict"
        evict = getattr(self.cache, name)
        if "params" in inspect.signature(getattr(type(self.cache), name)).parameters:
            evict(self.base.EvictParams(num_tokens=short))
        else:
            evict(short)
        self.evicted_tokens += held - self.cache.evictable_size()

    def queue(self, name: str, prompt: list[int]) -> None:
        request = types.SimpleNamespace(
            rid=name, origin_input_ids=self.pack(prompt), extra_key=None, cache_salt=None
        )
        self.scheduler._add_request_to_queue(request)

    def run(self, name: str, prompt: list[int], output: list[int]) -> None:
        self.queue(name, prompt)
        hit = self.match(prompt[:-1])
        self.make_room(len(prompt) + len(output) - hit)
        self.insert(prompt)
        self.insert(prompt + output)

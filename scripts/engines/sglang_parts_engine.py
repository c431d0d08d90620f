"""A real SGLang tree with a sliding window's cache or states, without model and device.

Pools are counted from what the tree says that it holds; everything else is the version's own.
"""

from __future__ import annotations

import random
from typing import Any

import sglang_files
from sglang_engine import CAPACITY, Driver, Slots, call

WINDOW = 48
"""Units of the sliding window."""
WINDOW_SHARE = 0.44
"""Of the window's slots, for each of full attention."""
SLOTS_PER_STATE = 42
STATES_PER_PATH = 3


def prepare() -> None:
    """Give the stand-in modules what the trees read; before anything is imported."""
    settings = _Settings(mamba_max_states_per_path=-1, enable_mamba_extra_buffer_lazy=False)
    sglang_files._FILL["sglang.srt.runtime_context"] = {
        "get_exec": lambda: _Settings(mamba=settings),
        "mamba_cache_chunk_size": lambda: 1,
        "mamba_checkpoint_grid": lambda page_size: page_size,
        "SETTINGS": settings,
    }


class _Settings:
    def __init__(self, **known: Any) -> None:
        vars(self).update(known)


class WindowSlots(Slots):
    """Slots of full attention and of the window's layers."""

    def full_available_size(self) -> int:
        return self.capacity - self.cache.full_evictable_size() - self.cache.full_protected_size()

    def swa_available_size(self) -> int:
        held: int = self.cache.swa_evictable_size() + self.cache.swa_protected_size()
        return int(self.capacity * WINDOW_SHARE) - held

    def translate_swa_indices_for_transfer(self, indices: Any) -> Any:
        return indices

    translate_loc_from_full_to_swa = translate_swa_indices_for_transfer

    def nothing(self, *_: object, **__: object) -> None:
        """The slots are only counted."""

    set_full_to_swa_mapping = clear_full_to_swa_mapping = nothing
    free_swa = free_swa_segment = free_full = nothing


class States:
    """The pool of states."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.cache: Any = None
        self.mamba_allocator = self
        self.next = 0

    def available_size(self) -> int:
        held: int = self.cache.mamba_evictable_size() + self.cache.mamba_protected_size()
        return self.capacity - held

    schedulable_available_size = available_size

    def alloc(self, count: int) -> Any:
        import torch

        self.next += count
        return torch.arange(self.next - count, self.next, dtype=torch.int64)

    def free(self, *_: object) -> None:
        """Counted only."""


class PartsDriver(Driver):
    """One unified cache whose nodes have parts: "SWA", "MAMBA" or both."""

    def __init__(
        self,
        page_size: int,
        core: str,
        parts: tuple[str, ...],
        eagle: bool = False,
        capacity: int = CAPACITY,
    ) -> None:
        self.parts = parts
        self.chance = random.Random(f"{page_size} {parts}")
        context = __import__("sglang.srt.runtime_context", fromlist=["x"])
        context.SETTINGS.mamba_max_states_per_path = STATES_PER_PATH
        # States stand at tokens, so such a tree's keys are never pairs.
        super().__init__(page_size, core, capacity, eagle and "MAMBA" not in parts)

    def _make_slots(self, capacity: int) -> Slots:
        swa = __import__("sglang.srt.mem_cache.allocator.swa", fromlist=["x"])
        kind = type("WindowSlots", (WindowSlots, swa.SWATokenToKVPoolAllocator), {})
        slots: Slots = kind(capacity) if "SWA" in self.parts else Slots(capacity)
        return slots

    def _parameters(self, slots: Slots, **more: Any) -> dict[str, Any]:
        pools = __import__("sglang.srt.mem_cache.memory_pool", fromlist=["x"])
        kinds = __import__("sglang.srt.mem_cache.unified_cache.component_type", fromlist=["x"])
        kind = type("States", (States, pools.HybridReqToTokenPool), {})
        self.states = kind(slots.capacity // SLOTS_PER_STATE)
        known = super()._parameters(slots, **more)
        components = [kinds.ComponentType[name] for name in ("FULL", *self.parts)]
        return {
            **known,
            "req_to_token_pool": self.states,
            "tree_components": tuple(components),
            "sliding_window_size": WINDOW if "SWA" in self.parts else None,
            "enable_mamba_extra_buffer": self.page_size > 1,
        }

    def _unified(self, slots: Slots) -> Any:
        cache = super()._unified(slots)
        self.states.cache = cache
        return cache

    def run(self, name: str, prompt: list[int], output: list[int]) -> None:
        self.queue(name, prompt)
        lock, protected = self._lock(prompt[:-1])
        cut = self.chance.randint(1, len(prompt))
        if len(prompt) > 2 * WINDOW and self.chance.random() < 0.3:  # a prefill in chunks
            lock, protected = self._checkpoint(prompt[:cut], lock, protected, 0)
        lock, protected = self._checkpoint(prompt, lock, protected, len(prompt))
        if "SWA" in self.parts and self.chance.random() < 0.3:  # the window has moved on
            self._release_window(lock)
        elif self.chance.random() < 0.3:
            self.make_room(self.chance.randint(1, 60))
        lock, _ = self._checkpoint(prompt + output, lock, protected, len(prompt + output))
        self._unlock(lock)

    def _lock(self, tokens: list[int]) -> tuple[Any, int]:
        found = self.cache.match_prefix(self.base.MatchPrefixParams(key=self.key(tokens)))
        return self._locked(found.last_device_node), self.length_of(found)

    def _locked(self, node: Any) -> list[Any]:
        return [node, self.cache.inc_lock_ref(node), False]

    def _unlock(self, lock: list[Any]) -> None:
        node, result, is_released = lock
        self.cache.dec_lock_ref(node, result.to_dec_params(), skip_swa=is_released)

    def _release_window(self, lock: list[Any]) -> None:
        node, result, _ = lock
        receipt = result.to_dec_params()
        if hasattr(self.cache, "dec_swa_lock_only"):
            known = {"swa_uuid_for_lock": getattr(receipt, "swa_uuid_for_lock", None)}  # in 0.5.19
            call(self.cache.dec_swa_lock_only, node_id=node, params=receipt, **known)
        else:
            swa = self.base.TreeLock(node, receipt)
            self.cache.release_swa(swa)
        lock[2] = True

    def _checkpoint(
        self, tokens: list[int], lock: list[Any], protected: int, window_end: int
    ) -> tuple[list[Any], int]:
        """Insert what was computed and move the lock onto its end."""
        key = self.key(tokens)
        if not len(key):
            return lock, protected
        self.make_room(max(0, len(tokens) - protected))
        freed = max(0, (window_end - WINDOW - self.page_size) // self.page_size * self.page_size)
        params = self._insert_params(key, protected, freed)
        result = self.cache.insert(params)
        self._unlock(lock)
        return self._locked(result.last_device_node), len(key)

    def _insert_params(self, key: Any, protected: int, freed: int) -> Any:
        import torch

        known = {
            "key": key,
            "value": torch.arange(len(key), dtype=torch.int64),
            "prev_prefix_len": protected,
            "mamba_value": self.states.alloc(1) if "MAMBA" in self.parts else None,
            "swa_evicted_seqlen": freed,
        }
        params = call(self.base.InsertParams, **known)
        if hasattr(params, "set_evicted_seqlen") and "SWA" in self.parts:
            params.set_evicted_seqlen(self._kind("SWA"), freed)
        return params

    def _kind(self, name: str) -> Any:
        return next(kind for kind in self.cache.components if kind.name == name)

    def make_room(self, tokens: int) -> None:
        """Free slots of every kind that an allocation of so many tokens lacks."""
        cache, slots = self.cache, self.cache.token_to_kv_pool_allocator
        short = {"num_tokens": max(0, tokens - slots.capacity + self._held("full"))}
        if "SWA" in self.parts:
            tokens = min(tokens, int(slots.capacity * WINDOW_SHARE / 2))
            short["swa_num_tokens"] = max(0, tokens - slots.swa_available_size())
        if "MAMBA" in self.parts:
            short["mamba_num"] = max(0, 1 - self.states.available_size())
        if any(short.values()):
            held = self._held("full")
            cache.evict_for_alloc(self.base.EvictParams(**{"num_tokens": 0, **short}))
            self.evicted_tokens += held - self._held("full")

    def _held(self, kind: str) -> int:
        evictable, protected = f"{kind}_evictable_size", f"{kind}_protected_size"
        return int(getattr(self.cache, evictable)() + getattr(self.cache, protected)())

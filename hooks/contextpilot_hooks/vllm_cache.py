"""What a vLLM coordinator's cache is like: full attention alone, or several kinds of layers.

With full attention alone, in one pool, a cached block is all that counts. For anything else the
coordinator itself is asked (`find_longest_cache_hit` only reads), whatever its layers are; what is
known of a kind here only spares questions:

| layers                    | a length can be reused when cached are                        |
|---------------------------|---------------------------------------------------------------|
| full attention, MLA       | all blocks before it                                          |
| sliding window            | the window before it                                          |
| chunked local attention   | what is before it in its chunk                                |
| Mamba, linear attention   | the state that ends there                                     |
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from .patching import NotSupported, resolve
from .points import Cache

_INSERT = ("block_hash_with_group_id",)
_EAGLE_GROUPS = ("drop_eagle_group_ids", "eagle_group_ids")


def module(name: str) -> Any:
    """A module that the scheduler imported. Raises NotSupported."""
    found = sys.modules.get(name)
    if found is None:
        raise NotSupported(f"{name} was not imported by the scheduler")
    return found


def pools(coordinator: Any) -> list[Any]:
    """The block pools behind a coordinator; some models have several (0.30 on)."""
    managers = coordinator.single_type_managers
    found = [getattr(manager, "block_pool", None) for manager in managers]
    return list(dict.fromkeys(pool for pool in found if pool is not None))


def is_full_attention(coordinator: Any) -> bool:
    """Whether every prefix of what is cached can be reused."""
    managers = coordinator.single_type_managers
    return len(managers) == 1 and type(managers[0]) is _kinds().FullAttentionManager


def full_block_size(coordinator: Any, pool: Any) -> int:
    """Tokens per block of a model with full attention only; NotSupported if not hashed alike."""
    block_size = coordinator.block_size
    if getattr(pool, "hash_block_size", block_size) != block_size:
        raise NotSupported(
            f"blocks of {block_size} tokens are hashed by {pool.hash_block_size} tokens"
        )
    return int(block_size)


def inserts_by_hash(coordinator: Any) -> bool:
    """Whether each hash comes and goes through a method of its own (0.24 on).

    Raises NotSupported where they do not look as expected.
    """
    found = pools(coordinator)
    if not found:
        raise NotSupported("the coordinator has no block pool")
    if not all(hasattr(pool, "_insert_block_hash") for pool in found):
        return False
    for pool in found:
        resolve(type(pool), "_insert_block_hash", _INSERT)
        resolve(type(pool), "_remove_cached_block_hashes", ("block",))
    return True


def has_partial_blocks(coordinator: Any) -> bool:
    """Whether parts of blocks are in the cache under hashes of their own."""
    return bool(getattr(coordinator, "enable_partial_hash_hits", False))


def hybrid_cache(coordinator: Any) -> Cache:
    """What is asked of a coordinator of any layers, without keeping it alive.

    Raises NotSupported.
    """
    resolve(type(coordinator), "find_longest_cache_hit", ("block_hashes", "max_cache_hit_length"))
    managers = coordinator.single_type_managers
    step = _alignment(coordinator)
    unit = int(getattr(pools(coordinator)[0], "hash_block_size", step))
    known = weakref.ref(coordinator)

    def reuse(keys: Sequence[Hashable]) -> int:
        living = known()
        if living is None:
            return 0
        return int(living.find_longest_cache_hit(list(keys), len(keys) * unit)[1])

    dropped = _dropped(coordinator, step, unit)
    floors = [_floor(manager, dropped) for manager in managers if _is_cacheable(manager)]

    def floor(length: int) -> int:
        return max((lowest(length) for lowest in floors), default=length)

    joined = not inserts_by_hash(coordinator) and any(_scale(m, unit) > 1 for m in managers)
    state = _always_news if joined else _held_by(coordinator)
    return Cache(unit, step, dropped, reuse, state, floor)


def dropped_blocks(coordinator: Any) -> set[int]:
    """Groups of layers whose last block of a hit is computed anew, for EAGLE's and MTP's sake.

    0.20 to 0.32 name the groups that do it; 0.33 some that do it no more, besides.
    """
    for name in _EAGLE_GROUPS:
        groups = getattr(coordinator, name, None)
        if groups is not None:
            return set(groups)
    everyone = range(len(coordinator.single_type_managers))
    return set(everyone) if getattr(coordinator, "use_eagle", False) else set()


def last_hash(coordinator: Any, unit: int) -> Callable[[Any], Hashable]:
    """Read from a key of the pool the hash of its last `unit` tokens.

    Up to 0.23 the key of a longer block is the hashes of all its units, one after the other.
    """
    utils = module("vllm.v1.core.kv_cache_utils")
    block_hash: Callable[[Any], Any] = utils.get_block_hash
    scales = [_scale(manager, unit) for manager in coordinator.single_type_managers]
    if inserts_by_hash(coordinator) or max(scales) == 1:
        return block_hash

    def read(key: Any) -> Hashable:
        joined = block_hash(key)
        last: Hashable = joined[-(len(joined) // scales[utils.get_group_id(key)]) :]
        return last

    return read


def sharing_needs_retention(coordinator: Any) -> bool:
    """Whether only the ends of prompts are kept for reuse, so the second sharer finds nothing."""
    return getattr(coordinator, "retention_interval", None) == 0 and any(
        "Mamba" in type(manager).__name__ or "SlidingWindow" in type(manager).__name__
        for manager in coordinator.single_type_managers
    )


def _kinds() -> Any:
    return module("vllm.v1.core.single_type_kv_cache_manager")


def _is_cacheable(manager: Any) -> bool:
    return bool(getattr(manager.kv_cache_spec, "prefix_cacheable", True))


def _alignment(coordinator: Any) -> int:
    if has_partial_blocks(coordinator):
        return int(coordinator.hash_block_size)
    for name in ("lcm_block_size", "scheduler_block_size", "block_size"):
        size = getattr(coordinator, name, None)
        if size is not None:
            return int(size)
    raise NotSupported(f"{type(coordinator).__name__} does not report at which lengths hits end")


def _scale(manager: Any, unit: int) -> int:
    return max(1, int(manager.block_size) // unit)


def _dropped(coordinator: Any, step: int, unit: int) -> int:
    most, managers = 0, coordinator.single_type_managers
    for group in dropped_blocks(coordinator):
        fine = getattr(managers[group], "supports_fine_grained_hash_lookup", False)
        size = unit if fine and step == unit else int(managers[group].block_size)
        most = max(most, -(-size // step) * step)
    if not any(hasattr(coordinator, name) for name in _EAGLE_GROUPS):
        # Up to 0.19 each kind of layers with keys and values drops a block of its own.
        kinds = {type(m) for m in managers if "Mamba" not in type(m).__name__}
        most *= max(1, len(kinds))
    return most


def _floor(manager: Any, dropped: int) -> Callable[[int], int]:
    kinds, spec, kind = _kinds(), manager.kv_cache_spec, type(manager)
    size = int(manager.block_size)
    if kind in (kinds.FullAttentionManager, getattr(kinds, "SinkFullAttentionManager", None)):
        return lambda _: 0
    if kind is getattr(kinds, "SlidingWindowManager", None):
        window = (int(spec.sliding_window) - 1) // size * size
        return lambda length: max(0, length - window)
    if kind is getattr(kinds, "ChunkedLocalAttentionManager", None) and not dropped:
        chunk = int(spec.attention_chunk_size)
        return lambda length: length // chunk * chunk
    return lambda length: length


def _held_by(coordinator: Any) -> Callable[[Hashable], Hashable]:
    """Which groups hold a block, as bits."""
    places = [
        (weakref.ref(manager.block_pool), 1 << group, [group])
        for group, manager in enumerate(coordinator.single_type_managers)
        if getattr(manager, "block_pool", None) is not None
    ]

    def state(key: Hashable) -> Hashable:
        held = 0
        for known, bit, group in places:
            pool = known()
            if pool is not None and pool.get_cached_block(key, group) is not None:
                held |= bit
        return held

    return state


def _always_news(_: Hashable) -> Hashable:
    return object()

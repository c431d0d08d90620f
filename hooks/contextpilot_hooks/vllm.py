"""vLLM (V1 engine): the ledger follows the scheduler's block pool.

Tested with 0.10.2 to 0.33.0; what counts is the shape, checked before anything is touched.

| where (on the scheduler's thread)     | what for                                               |
|---------------------------------------|--------------------------------------------------------|
| Scheduler.__init__                    | find the pool; everything below is set on the instances |
| Scheduler.add_request                 | block hashes of the prompts of requests with our id     |
| BlockPool.cache_full_blocks           | hashes that came in, of whatever request               |
| BlockPool._maybe_evict_cached_block   | hashes that left: the only way out, besides a reset     |
| BlockPool._remove_cached_block_hashes | the same from 0.24 on, where layers are of several kinds |
| BlockPool._insert_block_hash          | what came in, where parts of blocks have hashes, too    |
| BlockPool.reset_prefix_cache          | the whole cache was reset                              |
| Scheduler.schedule, update_from_output| hand the lists to the reporter's thread, which asks     |
|                                       | BlockPool.get_cached_block what is true now             |

The scheduler exists once per engine core, so one tensor-parallel rank reports; each data-parallel
replica has a scheduler and reports as an engine of its own. With EAGLE or MTP the last block of a
hit is computed anew, which every message says. Where layers do not all use full attention, a cached
hash alone does not make a hit, and the coordinator is asked at which lengths there is one:
`vllm_cache` says what it is like, `points` what is told.

`vllm serve` kills its engine core when it ends (shutdown timeout 0), so the index hears no farewell
then, only silence; the next start has a new epoch and begins with an empty snapshot.
"""

from __future__ import annotations

import logging
import sys
import weakref
from collections.abc import Callable, Hashable, Sequence
from operator import itemgetter
from types import ModuleType
from typing import Any

from . import importhook
from .blocks import MAX_BLOCKS, BlockLedger, Registered, Step
from .chain import ChainLedger
from .guard import Guard
from .ids import find_request_id
from .ledger import MAX_REQUESTS
from .patching import (
    Attachment,
    Function,
    NotSupported,
    PatchSet,
    after,
    after_bound,
    argument,
    resolve,
)
from .points import PointLedger
from .reporter import Reporter, open_reporter
from .settings import Engine, Settings, engine_name, read_bound
from .vllm_cache import (
    dropped_blocks,
    full_block_size,
    has_partial_blocks,
    hybrid_cache,
    inserts_by_hash,
    is_full_attention,
    last_hash,
    module,
    pools,
    sharing_needs_retention,
)

logger = logging.getLogger("contextpilot.hooks")

TESTED = "0.10.2 to 0.33.0"
_RETENTION = (
    "this model's layers are only kept for the end of a prompt, so the first request that shares"
    " the beginning of another finds nothing in the cache, and only the second does;"
    " --prefix-cache-retention-interval N keeps what the first needs, every N tokens"
)

_SCHEDULER = {
    "__init__": ("vllm_config", "kv_cache_config"),
    "add_request": ("request",),
    "schedule": (),
    "update_from_output": ("scheduler_output",),
}
_POOL = {
    "_maybe_evict_cached_block": ("block",),
    "cache_full_blocks": ("request", "num_cached_blocks", "num_full_blocks", "block_size"),
    "reset_prefix_cache": (),
    "get_cached_block": ("block_hash", "kv_cache_group_ids"),
}


def attach(scheduler_module: ModuleType) -> None:
    """Follow every Scheduler that is made from now on. Never raises for an unknown vLLM."""
    version = _version()
    guard = Guard(f"vLLM {version}: start of the hook", limit=1)
    patches = PatchSet(f"vLLM {version}")
    attachment = Attachment(patches)

    def start(scheduler: Any, *_: object) -> None:
        try:
            watch = watch_scheduler(scheduler, version)
        except (NotSupported, ValueError) as reason:
            _refuse(version, reason)
            return
        if watch is not None:
            attachment.watches.add(watch)

    try:
        _check_shape(scheduler_module)
        patches.wrap(
            scheduler_module.Scheduler, "__init__", after(guard, start), _SCHEDULER["__init__"]
        )
    except (NotSupported, AttributeError) as reason:
        _refuse(version, reason)
        return
    patches.apply()
    importhook.attached(attachment)


def watch_scheduler(scheduler: Any, version: str, settings: Settings | None = None) -> Watch | None:
    """Wrap the methods of one scheduler and its block pool; None when it caches nothing.

    Raises NotSupported, with nothing wrapped, and ValueError for bad settings.
    """
    manager = scheduler.kv_cache_manager
    pool = manager.block_pool
    if not pool.enable_caching:
        logger.info(
            "contextpilot: vLLM %s: prefix caching is off, so there is nothing to report", version
        )
        return None
    ledger, engine = _ledger(manager.coordinator, pool, version)
    engine = engine._replace(name=engine_name("vllm", _replica(scheduler)))
    reporter = open_reporter(ledger, engine, settings)
    watch = Watch(scheduler, ledger, reporter)
    watch.patches.apply()
    reporter.wake()
    # Without this, a deleted engine would live on in its reporter.
    weakref.finalize(scheduler, reporter.close, 1.0, False).atexit = False
    logger.info("contextpilot: vLLM %s reports its prefix cache as %s", version, engine.name)
    return watch


class Watch:
    """The wrappers of one scheduler; all but `undo` runs on its thread."""

    def __init__(self, scheduler: Any, ledger: BlockLedger, reporter: Reporter) -> None:
        self.ledger = ledger
        self.reporter = reporter
        self.guard = Guard(f"vLLM {reporter.engine.version}: hook")
        self.guard.on_failure(ledger.invalidate)
        self.guard.on_trip(lambda: reporter.close(wait=False))
        self.patches = PatchSet(f"vLLM {reporter.engine.version}")
        coordinator = scheduler.kv_cache_manager.coordinator
        self._unit = ledger.block_size
        self._block_hash = last_hash(coordinator, self._unit)
        self._registered: list[Registered] = []
        self._cached: list[_Blocks] = []
        self._keyed: list[Any] = []  # keys of the pool, which hold a group besides
        self._read_request = argument(scheduler.add_request, "request")
        wrap = self.patches.wrap_bound
        wrap(scheduler, "add_request", after_bound(self.guard, self._on_add_request))
        wrap(scheduler, "schedule", after_bound(self.guard, self._on_step))
        wrap(scheduler, "update_from_output", after_bound(self.guard, self._on_step))
        for pool in pools(coordinator):
            is_hybrid = isinstance(ledger, PointLedger) and inserts_by_hash(coordinator)
            self._stage(pool, is_hybrid, is_hybrid and has_partial_blocks(coordinator))

    def undo(self) -> None:
        """Unwrap, and tell the index that this engine is not followed any more."""
        self.guard.active = False
        self.patches.undo()
        self.reporter.close()

    def _stage(self, pool: Any, leaves_by_hash: bool, comes_by_hash: bool) -> None:
        wrap, guard = self.patches.wrap_bound, self.guard
        wrap(pool, "reset_prefix_cache", after_bound(guard, self._on_reset))
        if leaves_by_hash:
            wrap(pool, "_remove_cached_block_hashes", after_bound(guard, self._on_remove))
        else:
            wrap(pool, "_maybe_evict_cached_block", self._around_evict)
        if comes_by_hash:
            self._read_key = argument(pool._insert_block_hash, "block_hash_with_group_id")
            wrap(pool, "_insert_block_hash", after_bound(guard, self._on_insert))
            return
        cache, names = pool.cache_full_blocks, _POOL["cache_full_blocks"]
        self._read_named = itemgetter(*names)  # every version names them all
        self._read_cached = tuple(argument(cache, name) for name in names)
        wrap(pool, "cache_full_blocks", after_bound(guard, self._on_cache_full_blocks))

    def _on_add_request(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        request = self._read_request(args, kwargs)
        name = find_request_id(request.request_id)
        if name is None:
            return
        prompt_tokens = request.num_prompt_tokens
        keys = request.block_hashes[: prompt_tokens // self._unit]
        self._registered.append(Registered(name, keys, prompt_tokens))

    def _on_cache_full_blocks(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            request, start, stop, size = self._read_named(kwargs)
        except KeyError:
            request, start, stop, size = (read(args, kwargs) for read in self._read_cached)
        self._cached.append((request.block_hashes, start, stop, size // self._unit))

    def _on_insert(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._keyed.append(self._read_key(args, kwargs))

    def _on_remove(self, result: Any, *_: object) -> None:
        self._keyed += result

    def _around_evict(self, original: Function) -> Function:
        guard = self.guard

        def contextpilot_evict(*args: Any, **kwargs: Any) -> Any:
            key = None
            if guard.active:
                try:
                    key = (args[0] if args else kwargs["block"]).block_hash
                except Exception as error:
                    guard.failed(error)
            result = original(*args, **kwargs)
            if key is not None:
                self._keyed.append(key)
            return result

        return contextpilot_evict

    def _on_reset(self, result: Any, *_: object) -> None:
        if result:
            self._hand_over()
            self.ledger.clear()

    def _on_step(self, *_: object) -> None:
        if self._registered or self._cached or self._keyed:
            self._hand_over()

    def _hand_over(self) -> None:
        registered, self._registered = self._registered, []
        cached, self._cached = self._cached, []
        keyed, self._keyed = self._keyed, []
        self.ledger.hand_over(Step(registered, _Changed(cached, keyed, self._block_hash)))


_Blocks = tuple[Sequence[Hashable], int, int, int]
"""A request's hashes, from and up to which block came into the cache, and hashes per block. Hashes
grow at their end; where a streaming session replaces its last ones, those are not asked for."""


class _Changed:
    """Hashes of one step, picked out on the reporter's thread; there keys lose their group."""

    __slots__ = ("_block_hash", "_cached", "_keyed")

    def __init__(
        self, cached: list[_Blocks], keyed: list[Any], block_hash: Callable[[Any], Hashable]
    ) -> None:
        self._cached = cached
        self._keyed = keyed
        self._block_hash = block_hash

    def __iter__(self) -> Any:
        for hashes, start, stop, scale in self._cached:
            yield from hashes[(start + 1) * scale - 1 : stop * scale : scale]
        yield from map(self._block_hash, self._keyed)


def _check_shape(scheduler_module: ModuleType) -> None:
    for name, parameters in _SCHEDULER.items():
        resolve(scheduler_module.Scheduler, name, parameters)
    pool = module("vllm.v1.core.block_pool").BlockPool
    for name, parameters in _POOL.items():
        resolve(pool, name, parameters)
    if not callable(getattr(module("vllm.v1.core.kv_cache_utils"), "get_block_hash", None)):
        raise NotSupported("vllm.v1.core.kv_cache_utils.get_block_hash is missing")


def _ledger(coordinator: Any, pool: Any, version: str) -> tuple[BlockLedger, Engine]:
    """The ledger for what the model's layers are, and what is told of the engine (without a name).

    Raises NotSupported.
    """
    bounds = read_bound("REQUESTS", MAX_REQUESTS), read_bound("BLOCKS", MAX_BLOCKS)
    if is_full_attention(coordinator):
        size = full_block_size(coordinator, pool)
        dropped = size * (0 in dropped_blocks(coordinator))
        engine = Engine("", "vllm", version, size, dropped)
        return ChainLedger(size, _probe(pool), *bounds), engine
    cache = hybrid_cache(coordinator)
    if sharing_needs_retention(coordinator):
        logger.info("contextpilot: vLLM %s: %s", version, _RETENTION)
    engine = Engine("", "vllm", version, cache.step, cache.dropped, sparse=True)
    return PointLedger(cache, *bounds), engine


def _probe(pool: Any) -> Callable[[Hashable], bool]:
    """Whether the pool holds a block now, without keeping the pool alive."""
    known = weakref.ref(pool)
    group = [0]

    def probe(block_hash: Hashable) -> bool:
        living = known()
        return living is not None and living.get_cached_block(block_hash, group) is not None

    return probe


def _replica(scheduler: Any) -> int | None:
    parallel = scheduler.vllm_config.parallel_config
    # Replicas of dense models are told a size of 1 and keep their place in data_parallel_index.
    rank = getattr(parallel, "data_parallel_index", 0) or parallel.data_parallel_rank
    return int(rank) if rank or parallel.data_parallel_size > 1 else None


def _version() -> str:
    return str(getattr(sys.modules.get("vllm"), "__version__", "of unknown version"))


def _refuse(version: str, reason: Exception) -> None:
    logger.warning(
        "contextpilot: no hook in vLLM %s: %s; the engine runs without it and the"
        " index does not know its cache (tested: %s)",
        version,
        reason,
        TESTED,
    )

"""SGLang 0.5.1 to 0.5.23: requests, inserts, evictions and resets of the scheduler's prefix cache.

Everything happens in the scheduler process, on its one thread. `Scheduler` tells which cache is the
real one (RadixCache also serves as a simulated tree of the waiting queue) and which rank this is.

| SGLang           | cache             | insert            | evicted node       | where a key ends |
|------------------|-------------------|-------------------|--------------------|------------------|
| 0.5.1  - 0.5.8   | RadixCache        | insert(key)       | _delete_leaf       | own walk         |
| 0.5.9  - 0.5.18  | RadixCache        | insert(params)    | _delete_leaf       | own walk         |
| 0.5.19 - 0.5.23  | UnifiedRadixCache | insert(params)    | _evict_device_leaf | own walk (Python |
|                  |                   |                   |                    | core); probe of  |
|                  |                   |                   |                    | the Rust core,   |
|                  |                   |                   |                    | from 0.5.20      |

`insert` is the only way into the tree in all of them, whatever the callers are called
(cache_finished_req, insert_req, checkpoint). What looks different is left alone, with one WARNING.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from types import ModuleType
from typing import Any, NamedTuple

from . import importhook
from .guard import Guard
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
from .paths import PathLedger
from .prefix import PrefixLedger
from .reporter import Reporter, open_reporter
from .settings import Engine, Settings, engine_name, read_bound
from .sglang_parts import PartWatch
from .sglang_tree import TreeWatch
from .sglang_view import KNOWN as KNOWN  # doctor reads it here
from .sglang_view import View, version, view
from .steps import MAX_TOKENS, StepLedger

logger = logging.getLogger("contextpilot.hooks")

_Arguments = tuple[Any, ...]
_Named = dict[str, Any]


class Placement(NamedTuple):
    """This scheduler among its ranks: whether it reports, and its data-parallel rank or None."""

    reports: bool
    replica: int | None


def attach(scheduler_module: ModuleType) -> None:
    """Follow every Scheduler that is made from now on. Never raises for an unknown SGLang."""
    patches = PatchSet(f"SGLang {version()}")
    attachment = Attachment(patches)
    guard = Guard(f"SGLang {version()}: start of the hook", limit=1)

    def start(scheduler: Any, *_: object) -> None:
        try:
            rank = placement(scheduler)
            if rank.reports:
                watch = Watch(scheduler.tree_cache, rank.replica)
                watch.follow_queue(scheduler)
                watch.start()
                attachment.watches.add(watch)
        except (NotSupported, ValueError, AttributeError) as reason:
            _refuse(reason)

    try:
        scheduler = scheduler_module.Scheduler
        resolve(scheduler, "_add_request_to_queue", ("req",))
        patches.wrap(scheduler, "__init__", after(guard, start))
    except (NotSupported, AttributeError) as reason:
        _refuse(reason)
        return
    patches.apply()
    importhook.attached(attachment)


class Watch:
    """The wrappers of one prefix cache and its scheduler's queue.

    Raises NotSupported, with nothing wrapped, for a cache that we do not know, and ValueError for
    bad settings. Nothing is followed before `start`.
    """

    def __init__(
        self, cache: Any, replica: int | None = None, settings: Settings | None = None
    ) -> None:
        self.ledger, self.watch = _follow(view(cache))
        self.guard = Guard(f"SGLang {version()}: hook")
        self.patches = PatchSet(f"SGLang {version()}")
        self._read_key = _key_reader(cache.insert)
        self._stage(cache)
        if isinstance(self.watch, PartWatch):
            self._stage_parts(cache, self.watch)
        name = engine_name("sglang", replica)
        ledger, sparse = self.ledger, isinstance(self.watch, PartWatch)
        engine = Engine(name, "sglang", version(), ledger.granule, ledger.ahead, sparse)
        self.reporter: Reporter = open_reporter(self.ledger, engine, settings)
        self.guard.on_failure(self.watch.lose)
        self.guard.on_trip(lambda: self.reporter.close(wait=False))

    def start(self) -> None:
        """Set the wrappers and say hello to the index."""
        self.patches.apply()
        self.reporter.wake()
        engine = self.reporter.engine
        logger.info("SGLang %s: reports its prefix cache as %s", engine.version, engine.name)

    def undo(self) -> None:
        """Unwrap, and tell the index that this engine is not followed any more."""
        self.guard.active = False
        self.patches.undo()
        self.reporter.close()

    def follow_queue(self, scheduler: Any) -> None:
        """See every request that enters the queue of `scheduler`."""
        read = argument(scheduler._add_request_to_queue, "req")

        def queued(_: Any, args: _Arguments, kwargs: _Named) -> None:
            self.watch.admit(read(args, kwargs))

        self.patches.wrap_bound(scheduler, "_add_request_to_queue", after_bound(self.guard, queued))
        # Requests with a grammar take this way in 0.5.1 and 0.5.2.
        if inspect.getattr_static(type(scheduler), "_extend_requests_to_queue", None):
            read_all = argument(scheduler._extend_requests_to_queue, "reqs")

            def all_queued(_: Any, args: _Arguments, kwargs: _Named) -> None:
                for request in read_all(args, kwargs):
                    self.watch.admit(request)

            self.patches.wrap_bound(
                scheduler, "_extend_requests_to_queue", after_bound(self.guard, all_queued)
            )

    def _stage(self, cache: Any) -> None:
        wrap, guard = self.patches.wrap_bound, self.guard
        wrap(cache, "insert", after_bound(guard, self._inserted))
        wrap(cache, "reset", after_bound(guard, self._reset))
        wrap(cache, "evict", after_bound(guard, self._evicted))
        if hasattr(cache, "tree_core"):
            read_id = argument(cache._evict_device_leaf, "node_id")
            wrap(cache, "evict_for_alloc", after_bound(guard, self._evicted))
            wrap(
                cache,
                "_evict_device_leaf",
                after_bound(guard, lambda _, *call: self.watch.evicted(read_id(*call))),
            )
        else:
            read_node = argument(cache._delete_leaf, "node")
            wrap(
                cache,
                "_delete_leaf",
                after_bound(guard, lambda _, *call: self.watch.evicted(read_node(*call).id)),
            )

    def _stage_parts(self, cache: Any, watch: PartWatch) -> None:
        """See which parts the nodes lose that stay in the tree."""
        wrap, core = self.patches.wrap_bound, cache.tree_core
        read_node = argument(core.dec_swa_lock_only, "node_id")

        def unlocked(result: Any, args: _Arguments, kwargs: _Named) -> None:
            if any(result.device_frees.values()):
                watch.released(read_node(args, kwargs))

        wrap(core, "dec_swa_lock_only", after_bound(self.guard, unlocked))
        read = argument(cache._evict_device_next_node, "tracker")

        def around(original: Function) -> Function:
            @functools.wraps(original)
            def contextpilot_evict_next(*args: Any, **kwargs: Any) -> Any:
                before: dict[Any, int] = {}
                if self.guard.active:
                    try:
                        before = dict(read(args, kwargs))
                    except Exception as error:
                        self.guard.failed(error)
                result = original(*args, **kwargs)
                if before and self.guard.active:
                    try:
                        _note_emptied(watch, before, read(args, kwargs))
                    except Exception as error:
                        self.guard.failed(error)
                return result

            return contextpilot_evict_next

        wrap(cache, "_evict_device_next_node", around)

    def _inserted(self, result: Any, args: _Arguments, kwargs: _Named) -> None:
        key = self._read_key(args, kwargs)
        if isinstance(self.watch, PartWatch):
            self.watch.inserted(key, getattr(result, "last_device_node", None))
        else:
            self.watch.inserted(key)

    def _reset(self, *_: object) -> None:
        self.watch.reset()

    def _evicted(self, result: Any, *_: object) -> None:
        tokens = getattr(result, "num_tokens_evicted", None)
        if tokens and not self.watch.pending:
            raise RuntimeError(f"{tokens} tokens evicted, but no node went")
        self.watch.settle()


def _follow(seen: View) -> tuple[StepLedger, TreeWatch | PartWatch]:
    """The ledger and the watch for what a cache is like."""
    tree: Any = seen.tree
    bounds = read_bound("REQUESTS", MAX_REQUESTS), read_bound("TOKENS", MAX_TOKENS)
    if seen.parts is None:
        prefixes = PrefixLedger(tree.page_size, *bounds, paired=seen.paired)
        return prefixes, TreeWatch(tree, prefixes, seen.salted)
    paths = PathLedger(tree.page_size, *bounds, seen.paired, seen.parts.window)
    return paths, PartWatch(tree, seen.parts, paths, seen.salted)


def _note_emptied(watch: PartWatch, before: dict[Any, int], after: dict[Any, int]) -> None:
    for kind in watch.kinds:
        watch.emptied(kind, after.get(kind, 0) - before.get(kind, 0))


def placement(scheduler: Any) -> Placement:
    """Read the ranks of a scheduler. Raises NotSupported when they are not where we know them."""
    parallel = _parallel()
    ranks: Any
    for ranks in (scheduler, getattr(scheduler, "ps", None), parallel):
        if isinstance(getattr(ranks, "attn_tp_rank", None), int):
            break
    else:
        raise NotSupported("the scheduler's ranks are not where they are expected")
    first = not any((ranks.attn_tp_rank, getattr(ranks, "attn_cp_rank", 0), ranks.pp_rank))
    replica = ranks.dp_rank
    attention_width: int = getattr(ranks, "attn_dp_size", 1) if ranks is parallel else 1
    if attention_width > 1:  # up to 0.5.20 dp_rank counts the attention's replicas, too
        replica = (replica or 0) * attention_width + ranks.attn_dp_rank
    return Placement(first, replica)


def _parallel() -> Any:
    context = sys.modules.get("sglang.srt.runtime_context")
    get = getattr(context, "get_parallel", None)
    return get() if get is not None else None


def _key_reader(insert: Any) -> Any:
    """`read(args, kwargs)` of the key of an insert; up to 0.5.8 it is an argument itself."""
    if "params" not in inspect.signature(insert).parameters:
        return argument(insert, "key")
    read = argument(insert, "params")
    return lambda args, kwargs: read(args, kwargs).key


def _refuse(reason: Exception) -> None:
    logger.warning(
        "no hook in SGLang %s: %s; the engine runs without it, and the index"
        " will not know its cache",
        version(),
        reason,
    )

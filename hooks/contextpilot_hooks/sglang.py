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

import inspect
import logging
import re
import sys
from types import ModuleType
from typing import Any, NamedTuple

from . import importhook
from .guard import Guard
from .ledger import MAX_REQUESTS
from .patching import Attachment, NotSupported, PatchSet, after, after_bound, argument, resolve
from .prefix import MAX_TOKENS, PrefixLedger
from .reporter import Reporter, open_reporter
from .settings import Engine, Settings, engine_name, read_bound
from .sglang_tree import ProbedTree, Tree, TreeWatch, WalkedTree

logger = logging.getLogger("contextpilot.hooks")

RADIX = ("sglang.srt.mem_cache.radix_cache", "RadixCache")
UNIFIED = ("sglang.srt.mem_cache.unified_radix_cache", "UnifiedRadixCache")
KNOWN = {RADIX: ((0, 5, 1), (0, 5, 18)), UNIFIED: ((0, 5, 19), (0, 5, 23))}
"""First and last version in which a class is the prefix cache and was tested."""

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
        self.tree = view(cache)
        self.ledger = PrefixLedger(
            self.tree.page_size,
            read_bound("REQUESTS", MAX_REQUESTS),
            read_bound("TOKENS", MAX_TOKENS),
        )
        self.watch = TreeWatch(self.tree, self.ledger, salted=_is_salted())
        self.guard = Guard(f"SGLang {version()}: hook")
        self.patches = PatchSet(f"SGLang {version()}")
        self._read_key = _key_reader(cache.insert)
        self._stage(cache)
        name = engine_name("sglang", replica)
        engine = Engine(name, "sglang", version(), self.tree.page_size)
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

    def _inserted(self, _: Any, args: _Arguments, kwargs: _Named) -> None:
        self.watch.inserted(self._read_key(args, kwargs))

    def _reset(self, *_: object) -> None:
        self.watch.reset()

    def _evicted(self, result: Any, *_: object) -> None:
        tokens = getattr(result, "num_tokens_evicted", None)
        if tokens and not self.watch.pending:
            raise RuntimeError(f"{tokens} tokens evicted, but no node went")
        self.watch.settle()


def view(cache: Any) -> Tree:
    """A read-only view of a prefix cache that we know. Raises NotSupported."""
    kind = (type(cache).__module__, type(cache).__name__)
    known = KNOWN.get(kind)
    if known is None:
        raise NotSupported(f"its prefix cache is a {kind[1]}")
    first, last = known
    if not first <= _numbers(version()) <= last:
        raise NotSupported(f"{kind[1]} is known from {_dotted(first)} to {_dotted(last)}")
    if getattr(cache, "disable", False):
        raise NotSupported("prefix caching is off")
    core: Any = getattr(cache, "tree_core", None)
    keyed: Any = cache if core is None else core
    if getattr(keyed, "is_eagle", False):
        raise NotSupported("with EAGLE speculation the keys are pairs of tokens")
    return _walked(cache, cache) if kind == RADIX else _unified(cache, core)


def _unified(cache: Any, core: Any) -> Tree:
    components = [str(getattr(kind, "name", kind)) for kind in cache.components]
    if components != ["FULL"]:
        raise NotSupported(f"the tree holds {' and '.join(components)}, not FULL alone")
    if cache.cache_controller is not None or getattr(cache, "linker", None) is not None:
        raise NotSupported("the cache has a host or external tier")
    if type(core).__name__ == "UnifiedTreeCore":  # the walk is faster than this core's own probe
        return _walked(cache, core)
    if not callable(getattr(core, "match_full_device_prefix", None)):
        raise NotSupported(f"{type(core).__name__} cannot be asked before 0.5.20")
    return ProbedTree(core, cache.page_size)


def _walked(cache: Any, owner: Any) -> Tree:
    missing = [name for name in ("children", "id", "key") if not hasattr(owner.root_node, name)]
    if missing:
        raise NotSupported(f"tree nodes have no {', '.join(missing)}")
    page_size = cache.page_size
    child_key = getattr(cache, "get_child_key_fn", None)
    if child_key is None:
        of_key = getattr(_radix_key(), "child_key", None)
        if of_key is None:
            raise NotSupported("no function tells the key of a child")

        def child_key(key: Any) -> Any:
            return of_key(key, page_size)

    return WalkedTree(owner, page_size, child_key)


def placement(scheduler: Any) -> Placement:
    """Read the ranks of a scheduler. Raises NotSupported when they are not where we know them."""
    parallel = _parallel()
    ranks: Any
    for ranks in (scheduler, getattr(scheduler, "ps", None), parallel):
        if isinstance(getattr(ranks, "attn_tp_rank", None), int):
            break
    else:
        raise NotSupported("the scheduler's ranks are not where we know them")
    first = not any((ranks.attn_tp_rank, getattr(ranks, "attn_cp_rank", 0), ranks.pp_rank))
    replica = ranks.dp_rank
    attention_width: int = getattr(ranks, "attn_dp_size", 1) if ranks is parallel else 1
    if attention_width > 1:  # up to 0.5.20 dp_rank counts the attention's replicas, too
        replica = (replica or 0) * attention_width + ranks.attn_dp_rank
    return Placement(first, replica)


def version() -> str:
    """SGLang's own version."""
    return str(getattr(sys.modules.get("sglang"), "__version__", "of unknown version"))


def _parallel() -> Any:
    context = sys.modules.get("sglang.srt.runtime_context")
    get = getattr(context, "get_parallel", None)
    return get() if get is not None else None


def _radix_key() -> Any:
    return getattr(sys.modules.get(RADIX[0]), "RadixKey", None)


def _is_salted() -> bool:
    """Whether keys carry `cache_salt` (before, it was part of `extra_key`)."""
    radix_key = _radix_key()
    return radix_key is not None and "cache_salt" in inspect.signature(radix_key).parameters


def _key_reader(insert: Any) -> Any:
    """`read(args, kwargs)` of the key of an insert; up to 0.5.8 it is an argument itself."""
    if "params" not in inspect.signature(insert).parameters:
        return argument(insert, "key")
    read = argument(insert, "params")
    return lambda args, kwargs: read(args, kwargs).key


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


def _refuse(reason: Exception) -> None:
    logger.warning(
        "no hook in SGLang %s: %s; the engine runs as if contextpilot were not there, and the index"
        " will not know its cache",
        version(),
        reason,
    )

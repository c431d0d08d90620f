"""SGLang's tree where a node has parts besides its tokens: a sliding window's cache, a state.

A `PartWatch` lives on the scheduler's thread beside one unified cache. A length of a path can be
reused when all parts accept it:

| part  | accepts a length when                                                                    |
|-------|------------------------------------------------------------------------------------------|
| FULL  | all nodes up to it are there                                                             |
| SWA   | the window before it has its cache, or all from the start                                |
| MAMBA | a node ends there that has a state                                                       |

After every insert the path is looked at, node by node, and told as facts. A leaf goes by its id,
but where a node inside loses its window or state, SGLang only says how many. So all nodes that had
one are kept in the order of their last use, and looked through from the oldest until all that went
are found: they go in about that order. Where some are not found, since a node was split unseen,
every path is looked at again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Protocol

from .paths import PathLedger, Told
from .sglang_watch import CacheWatch

Span = tuple[Hashable, int, int]
"""A node, and the units of a path that it stands for: from where, up to where."""
Units = tuple[int, int]
"""The first and the last of some units, the first of a path being 1."""


class Parts(NamedTuple):
    """What a tree's nodes have besides: the kinds of parts as the engine names them, or None.

    window: units that the sliding window needs before a length.
    """

    window_kind: Any
    window: int
    state_kind: Any

    def kinds(self) -> list[Any]:
        return [kind for kind in (self.window_kind, self.state_kind) if kind is not None]


class Nodes(Protocol):
    """A read-only view of a tree: no LRU touch, no split, no access to the device."""

    page_size: int
    part: Callable[[Any, Any], object]
    """`part(node, kind)` of a node in the tree: None when it is not on the device."""

    def path(self, key: Any, length: int, end: Hashable = None) -> list[Span]:
        """The nodes along `key`, of `length` units, that are there; `end`: its last, if known."""


class ProbedNodes:
    """Either tree core from 0.5.20 on, by questions about prefixes of a key."""

    def __init__(self, core: Any, page_size: int) -> None:
        self._core = core
        self.page_size = page_size
        self.part = core.get_component_device_value

    def path(self, key: Any, length: int, end: Hashable = None) -> list[Span]:  # noqa: ARG002
        spans: list[Span] = []
        start = 0
        while start + self.page_size <= length:
            probe = key[: start + self.page_size]
            found, node, deepest = self._core.match_full_device_prefix(probe)
            if found <= start:
                break
            spans.append((node, start, deepest))
            start = deepest
        return _cut(spans, self._core.match_full_device_prefix(key)[0]) if spans else []


class CollectedNodes(ProbedNodes):
    """Either tree core from 0.5.22 on: `collect_path_info` lists the nodes before one."""

    def path(self, key: Any, length: int, end: Hashable = None) -> list[Span]:
        if end is None:
            length, end, _ = self._core.match_full_device_prefix(key)
            if not length:
                return []
        (found,) = self._core.collect_path_info((end,))
        return _cut([(node.node_id, node.path_start, node.path_end) for node in found], length)


BOUND = "collect_path_info", "get_component_device_value"
"""What is asked of the Rust core itself."""


class BoundNodes(CollectedNodes):
    """The Rust tree core, asked below SGLang's own wrapping of it: that is a sixth of a step."""

    def __init__(self, core: Any, page_size: int) -> None:
        super().__init__(core, page_size)
        binding = core._binding
        self._collect: Callable[[list[Any]], Any] = binding.collect_path_info
        self.part = binding.get_component_device_value

    def path(self, key: Any, length: int, end: Hashable = None) -> list[Span]:
        if end is None:
            return super().path(key, length)
        (found,) = self._collect([end])
        return _cut([(node[0], node[2], node[3]) for node in found], length)


def _cut(spans: list[Span], length: int) -> list[Span]:
    """Nodes of which the last one may go on beyond a key."""
    if spans and spans[-1][2] > length:
        spans[-1] = (*spans[-1][:2], length)
    return spans


class PartWatch(CacheWatch):
    """Follows a tree whose nodes have parts."""

    def __init__(self, tree: Nodes, parts: Parts, ledger: PathLedger, salted: bool) -> None:
        super().__init__(ledger, salted)
        self._tree = tree
        self._parts = parts
        self.kinds = parts.kinds()
        self.num_searches = 0
        """How often all paths had to be looked at again."""
        self._forget()

    def _forget(self) -> None:
        super()._forget()
        self._ends: dict[Hashable, Hashable] = {}
        self._keys: dict[Hashable, Any] = {}
        self._key_tokens = 0
        self._held: dict[Any, OrderedDict[Hashable, None]] = {
            kind: OrderedDict() for kind in self.kinds
        }
        self._lost = dict.fromkeys(self._held, 0)

    def inserted(self, key: Any, end: Hashable = None) -> None:
        """`key` is in the tree now, whoever's it was; its last node is `end`, if known."""
        length = len(key)
        if length >= self._tree.page_size:
            self._look(key, length, end)

    def emptied(self, kind: Any, count: int) -> None:
        """Nodes that stay in the tree lost parts of so many units, or states; `settle` follows."""
        self._lost[kind] += count

    def settle(self) -> None:
        """Find out what is left of the paths from which something went."""
        gone, self._gone = self._gone, []
        keys = [key for key in map(self._release, gone) if key is not None]
        for key in keys:
            self._look(key)
        for kind, count in self._lost.items():
            if count:
                self._lost[kind] = 0
                self._search(kind, count)

    def released(self, node: Hashable) -> None:
        """Parts on the path to a node may have been freed."""
        key = self._key_through(node)
        if key is None:
            self._look_at_all()
        else:
            self._look(key)

    def _look(self, key: Any, asked: int = 0, end: Hashable = None) -> list[Span]:
        """Look at a path, and tell what is so; returns its nodes.

        asked: its length, if known. end: just after its insert, its last node, if known.
        """
        asked = asked or len(key)
        spans = self._tree.path(key, asked, end)
        length = spans[-1][2] if spans else 0
        if length:
            self._keep(key if length == asked else key[:length], spans)
        window = self._window(spans, length, is_inserted=end is not None)
        states = self._states(spans, length)
        if self._following:
            tokens = getattr(key, "token_ids", key)
            self._hand_over(Told(tokens, asked, self._namespace(key), length, window, states))
        return spans

    def _keep(self, key: Any, spans: list[Span]) -> None:
        """Let a key stand for all nodes that it leads through: shorter ones among them go."""
        ends, keys = self._ends, self._keys
        end = spans[-1][0]
        for node, _, _ in spans:
            ends[node] = end
            if node in keys:
                self._key_tokens -= len(keys.pop(node))
        keys[end] = key
        self._key_tokens += spans[-1][2]
        if self._key_tokens > self._max_tokens:
            self.lose()

    def _key_through(self, node: Hashable) -> Any:
        """A key that leads through a node, or None."""
        return self._keys.get(self._ends.get(node))

    def _release(self, node: Hashable) -> Any:
        """Keep nothing of a leaf that went; returns the key that led there, the first time."""
        for held in self._held.values():
            held.pop(node, None)
        key = self._keys.pop(self._ends.pop(node, None), None)
        if key is not None:
            self._key_tokens -= len(key)
        return key

    def _window(self, spans: list[Span], length: int, is_inserted: bool) -> list[Units]:
        """The units of a path that have the window's cache; notes which nodes have.

        An insert takes no window from a node, and what eviction takes is found at once: so just
        after an insert nodes that had one are not asked again.
        """
        part, kind = self._tree.part, self._parts.window_kind
        if kind is None:
            return [(1, length)] if length else []
        held, found = self._held[kind], list[Units]()
        known = held if is_inserted and not self._lost[kind] else ()
        used = length - self._parts.window
        for node, start, end in spans:
            if node in known:
                found.append((start + 1, end))
                if end > used:
                    held.move_to_end(node)
            elif part(node, kind) is not None:
                found.append((start + 1, end))
                held[node] = None
            elif node in held:
                del held[node]
        return found

    def _states(self, spans: list[Span], length: int) -> list[Units]:
        """The lengths of a path at which there is a state; notes which nodes have one."""
        part, kind = self._tree.part, self._parts.state_kind
        if kind is None:
            return [(1, length)] if length else []
        held, found = self._held[kind], list[Units]()
        for node, _, end in spans:
            if part(node, kind) is None:
                held.pop(node, None)
            else:
                found.append((end, end))
                held[node] = None
                held.move_to_end(node)
        return found

    def _search(self, kind: Any, count: int) -> None:
        """Find the nodes inside the tree that lost parts of `count` units together."""
        held = self._held[kind]
        for _ in range(len(held)):
            if count <= 0 or not held:
                return
            node = next(iter(held))
            if self._tree.part(node, kind) is not None:
                held.move_to_end(node)
                continue
            del held[node]
            key = self._key_through(node)
            spans = self._look(key) if key is not None else []
            if kind == self._parts.window_kind:
                count -= next((end - start for found, start, end in spans if found == node), 0)
            else:
                count -= 1
        if count > 0:
            self._look_at_all()

    def _look_at_all(self) -> None:
        self.num_searches += 1
        for key in list(self._keys.values()):
            self._look(key)

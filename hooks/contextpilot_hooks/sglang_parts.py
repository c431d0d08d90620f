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

from .paths import Facts, PathLedger, Told
from .sglang_watch import CacheWatch

Span = tuple[Hashable, int, int]
"""A node, and the units of a path that it stands for: from where, up to where."""


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

    def path(self, key: Any, end: Hashable = None) -> list[Span]:
        """The nodes along `key` that are there; `end`: the node of its end, where it is known."""


class ProbedNodes:
    """Either tree core from 0.5.20 on, by questions about prefixes of a key."""

    def __init__(self, core: Any, page_size: int) -> None:
        self._core = core
        self.page_size = page_size
        self.part = core.get_component_device_value

    def path(self, key: Any, end: Hashable = None) -> list[Span]:  # noqa: ARG002
        spans: list[Span] = []
        start = 0
        while start + self.page_size <= len(key):
            probe = key[: start + self.page_size]
            length, node, deepest = self._core.match_full_device_prefix(probe)
            if length <= start:
                break
            spans.append((node, start, deepest))
            start = deepest
        return _cut(spans, self._core.match_full_device_prefix(key)[0]) if spans else []


class CollectedNodes(ProbedNodes):
    """Either tree core from 0.5.22 on: `collect_path_info` lists the nodes before one."""

    def path(self, key: Any, end: Hashable = None) -> list[Span]:
        if end is None:
            length, end, _ = self._core.match_full_device_prefix(key)
            if not length:
                return []
        else:
            length = len(key)
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

    def path(self, key: Any, end: Hashable = None) -> list[Span]:
        if end is None:
            return super().path(key)
        (found,) = self._collect([end])
        return _cut([(node, start, stop) for node, _, start, stop, *_ in found], len(key))


def _cut(spans: list[Span], length: int) -> list[Span]:
    """Nodes of which the last one may go on beyond a key."""
    if spans and spans[-1][2] > length:
        spans[-1] = (*spans[-1][:2], length)
    return spans


class _Path:
    """A key that leads through some nodes."""

    __slots__ = ("key", "nodes")

    def __init__(self, key: Any) -> None:
        self.key = key
        self.nodes = 0


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
        self._paths: dict[Hashable, _Path] = {}
        self._path_tokens = 0
        self._held: dict[Any, OrderedDict[Hashable, int]] = {
            kind: OrderedDict() for kind in self.kinds
        }
        self._lost = dict.fromkeys(self._held, 0)

    def inserted(self, key: Any, end: Hashable = None) -> None:
        """`key` is in the tree now, whoever's it was; its last node is `end`, if known."""
        length = len(key)
        if length >= self._tree.page_size:
            self._look(_Path(key), end, length)

    def emptied(self, kind: Any, count: int) -> None:
        """Nodes that stay in the tree lost parts of so many units, or states; `settle` follows."""
        self._lost[kind] += count

    def settle(self) -> None:
        """Find out what is left of the paths from which something went."""
        gone, self._gone = self._gone, []
        paths: dict[_Path, None] = {}
        for node in gone:
            path = self._release(node)
            if path is not None:
                paths[path] = None
        for path in paths:
            self._look(path)
        for kind, count in self._lost.items():
            if count:
                self._lost[kind] = 0
                self._search(kind, count)

    def released(self, node: Hashable) -> None:
        """Parts on the path to a node may have been freed."""
        path = self._paths.get(node)
        if path is None:
            self._look_at_all()
        else:
            self._look(path)

    def _look(self, path: _Path, end: Hashable = None, asked: int = 0) -> list[Span]:
        """Look at a path, and tell what is so; returns its nodes. `asked`: its length, if known."""
        key = path.key
        asked = asked or len(key)
        spans = self._tree.path(key, end)
        length = spans[-1][2] if spans else 0
        self._keep(path, spans, asked)
        facts = self._facts(spans, length)
        if self._following:
            tokens = getattr(key, "token_ids", key)
            self._hand_over(Told(tokens, asked, self._namespace(key), length, facts))
        if 0 < length < asked and path.nodes:
            self._path_tokens -= asked - length
            path.key = key[:length]
        return spans

    def _keep(self, path: _Path, spans: list[Span], length: int) -> None:
        """Let this path stand for its nodes: of a conversation only the longest key is kept."""
        paths, count = self._paths, 0
        for node, _, _ in spans:
            known = paths.get(node)
            if known is path:
                continue
            if known is not None:
                known.nodes -= 1
                if not known.nodes:
                    self._path_tokens -= len(known.key)
            paths[node] = path
            count += 1
        if count:
            if not path.nodes:
                self._path_tokens += length
            path.nodes += count
        if self._path_tokens > self._max_tokens:
            self.lose()

    def _leave(self, path: _Path) -> None:
        path.nodes -= 1
        if not path.nodes:
            self._path_tokens -= len(path.key)

    def _release(self, node: Hashable) -> _Path | None:
        for held in self._held.values():
            held.pop(node, None)
        path = self._paths.pop(node, None)
        if path is not None:
            self._leave(path)
        return path

    def _facts(self, spans: list[Span], length: int) -> Facts:
        """What the nodes of a path have; notes which node has which part."""
        window: list[tuple[int, int]] = [(1, length)] if length else []
        states = window
        part, kind = self._tree.part, self._parts.window_kind
        if kind is not None:
            held, window = self._held[kind], []
            for node, start, end in spans:
                if part(node, kind) is not None:
                    held[node] = end - start
                    held.move_to_end(node)
                    window.append((start + 1, end))
                elif node in held:
                    del held[node]
        kind = self._parts.state_kind
        if kind is not None:
            held, states = self._held[kind], []
            for node, _, end in spans:
                if part(node, kind) is None:
                    held.pop(node, None)
                else:
                    held[node] = 1
                    held.move_to_end(node)
                    states.append((end, end))
        return Facts(tuple(window), tuple(states))

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
            size = held.pop(node)
            path = self._paths.get(node)
            # It may have been split since: what is left of it tells its size.
            spans = self._look(path) if path is not None else []
            if kind == self._parts.window_kind:
                size = next((end - start for found, start, end in spans if found == node), 0)
            count -= size
        if count > 0:
            self._look_at_all()

    def _look_at_all(self) -> None:
        self.num_searches += 1
        for path in dict.fromkeys(self._paths.values()):
            self._look(path)

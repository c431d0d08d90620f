"""SGLang's radix trees, followed without touching them: what was inserted, what is left.

A `TreeWatch` lives on the scheduler's thread beside one prefix cache. After every insert it asks
the tree where the key ends and keeps a `Branch` for that node; after every eviction it looks up
the branches of the nodes that went. Everything else is PrefixLedger's, on the reporter's thread.

A node keeps its id when it is split (the new node is the upper part) and only leaves are evicted,
so the end node of a path is a sufficient trigger for the whole path.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Protocol

from .prefix import Branch, Grown, Lost, PrefixLedger, Shrunk
from .sglang_watch import CacheWatch


class End(NamedTuple):
    """`length` leading tokens of a key are in the tree, the last of them in node `node`."""

    length: int
    node: Hashable


class Tree(Protocol):
    """A read-only view of one prefix cache: no LRU touch, no split, no device access."""

    page_size: int

    def end_of_inserted(self, key: Any) -> End:
        """Where `key` ends, just after its insert. Raises RuntimeError if it is not there."""

    def end_of_remaining(self, key: Any, length: int) -> End:
        """How much is left of the first `length` tokens, which were in the tree until leaves
        were evicted."""


class ProbedTree:
    """The unified cache's Rust tree core from 0.5.20: `match_full_device_prefix` reads only."""

    def __init__(self, core: Any, page_size: int) -> None:
        self._core = core
        self.page_size = page_size

    def end_of_inserted(self, key: Any) -> End:
        length, node, _ = self._core.match_full_device_prefix(key)
        return End(length, node)

    def end_of_remaining(self, key: Any, length: int) -> End:
        found, node, _ = self._core.match_full_device_prefix(key)
        return End(min(found, length), node)


class WalkedTree:
    """A tree of Python nodes: RadixCache up to 0.5.18, the unified cache's Python tree core.

    owner: has `root_node`. child_key: the engine's own function from a one-page key to the key of
    `children`. Tokens are not compared: siblings differ in their first page, and the key was in
    the tree before leaves were evicted, so a child that is found is the one that was there.
    """

    def __init__(self, owner: Any, page_size: int, child_key: Callable[[Any], Hashable]) -> None:
        self._owner = owner
        self._child_key = child_key
        self.page_size = page_size

    def end_of_inserted(self, key: Any) -> End:
        length = len(key) // self.page_size * self.page_size
        end = self._walk(key, length)
        if end.length != length:
            raise RuntimeError(f"{end.length} of {length} tokens found after their insert")
        return end

    def end_of_remaining(self, key: Any, length: int) -> End:
        end = self._walk(key, length)
        return End(min(end.length, length), end.node)

    def _walk(self, key: Any, length: int) -> End:
        page_size, child_key = self.page_size, self._child_key
        node, depth = self._owner.root_node, 0
        while depth < length:
            child = node.children.get(child_key(key[depth : depth + page_size]))
            if child is None:
                break
            node = child
            depth += len(child.key)
        return End(depth, node.id)


class TreeWatch(CacheWatch):
    """Follows a tree in which all that is there of a path can be reused."""

    def __init__(self, tree: Tree, ledger: PrefixLedger, salted: bool) -> None:
        super().__init__(ledger, salted)
        self._tree = tree
        self._branches: dict[Hashable, Branch] = {}
        self._branch_tokens = 0

    def inserted(self, key: Any) -> None:
        """`key` is in the tree now, whoever's it was."""
        if not self._following or len(key) < self._tree.page_size:
            return
        length, node = self._tree.end_of_inserted(key)
        if length == 0:
            return
        branch = self._branches.get(node)
        if branch is None:
            branch = self._keep(node, Branch(key, length))
        elif branch.length < length:
            self._replace_key(branch, key, length)
        tokens = getattr(key, "token_ids", key)
        self._hand_over(Grown(branch, tokens, length, self._namespace(key)))

    def settle(self) -> None:
        """Leaves have been evicted: find out what is left of the paths that ended in them."""
        gone, self._gone = self._gone, []
        for node in gone:
            branch = self._branches.pop(node, None)
            if branch is not None:
                self._branch_tokens -= branch.length
                self._shorten(branch)

    def _shorten(self, branch: Branch) -> None:
        tokens = branch.tokens()
        length, node = self._tree.end_of_remaining(branch.key, branch.length)
        if length == 0:
            self._hand_over(Shrunk(branch, None, 0, tokens))
            return
        into = self._branches.get(node)
        if into is None:
            branch.length = length
            into = self._keep(node, branch)
        elif into.length < length:
            self._replace_key(into, branch.key, length)
        self._hand_over(Shrunk(branch, into, length, tokens))

    def _keep(self, node: Hashable, branch: Branch) -> Branch:
        self._branches[node] = branch
        self._branch_tokens += branch.length
        while self._branch_tokens > self._max_tokens and len(self._branches) > 1:
            oldest = self._branches.pop(next(iter(self._branches)))
            self._branch_tokens -= oldest.length
            self._hand_over(Lost(oldest))
        return branch

    def _replace_key(self, branch: Branch, key: Any, length: int) -> None:
        self._branch_tokens += length - branch.length
        branch.key, branch.length = key, length

    def _forget(self) -> None:
        super()._forget()
        self._branches.clear()
        self._branch_tokens = 0

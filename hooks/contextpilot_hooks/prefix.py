"""The ledger of an engine whose cache is a radix tree of tokens (SGLang).

The scheduler's thread knows the tree but not who is touched by a change; the reporter's thread
knows the requests but not the tree. What passes between them are `Branch` objects: one for each
tree node at which an insert ended, standing for every request whose cached prompt tokens lie on the
path to that node. When the node goes, the branch shrinks or joins the branch of the node above:

    ledger = PrefixLedger(page_size=1)
    ledger.hand_over(Admitted("cp-...", tokens, namespace))
    ledger.hand_over(Grown(branch, tokens, 2400, namespace))    # tokens[:2400] are in the tree
    ledger.hand_over(Shrunk(branch, above, 1200, tokens))       # only the first 1200 are left

Invariants
| what                        | holds                                                              |
|-----------------------------|--------------------------------------------------------------------|
| members of a branch         | their cached tokens are a prefix of the branch's own cached tokens |
| length of a request         | min(own, what its branch keeps); raised only by Grown              |
| open: requests not complete | by namespace, length and next token: whoever inserts tokens that   |
|                             | go on alike makes them grow again                                  |
| tokens of a request         | kept while it is not complete; after that its branch has them      |
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import Any, NamedTuple

from .ledger import Mark
from .steps import SLICE, Admitted, Emptied, StepLedger
from .units import WIDTH, common_prefix


class Branch:
    """A path in the tree. `key` and `length` belong to the scheduler, `members` to the reporter."""

    __slots__ = ("key", "length", "members")

    def __init__(self, key: Any, length: int) -> None:
        self.key = key
        self.length = length
        self.members: set[_Request] = set()

    def tokens(self) -> Iterable[int]:
        """The tokens of the path, and perhaps more after them."""
        tokens: Iterable[int] = getattr(self.key, "token_ids", self.key)
        return tokens


class Grown(NamedTuple):
    """`tokens[:length]` are in the tree, and `branch` stands for their end."""

    branch: Branch
    tokens: Iterable[int]
    length: int
    namespace: Hashable


class Shrunk(NamedTuple):
    """Of `branch`, for which `tokens` stood, only the first `length` are left; its members join
    `into`."""

    branch: Branch
    into: Branch | None
    length: int
    tokens: Iterable[int]


class Lost(NamedTuple):
    """What is left of `branch` is not known any more."""

    branch: Branch


Step = Admitted | Grown | Shrunk | Lost | Emptied


class _Request:
    """`tokens` are empty while all are cached; `complete` is the most that can be."""

    __slots__ = ("branch", "complete", "length", "name", "namespace", "prompt_tokens", "tokens")

    def __init__(
        self, name: str, tokens: bytes, namespace: Hashable, page_size: int, prompt_tokens: int
    ) -> None:
        self.name = name
        self.tokens = tokens
        self.namespace = namespace
        self.prompt_tokens = prompt_tokens
        self.complete = len(tokens) // WIDTH // page_size * page_size
        self.length = 0
        self.branch: Branch | None = None

    def next_token(self) -> bytes:
        start = self.length * WIDTH
        return self.tokens[start : start + WIDTH]


_Open = dict[int, dict[bytes, set[_Request]]]


class PrefixLedger(StepLedger):
    """Works out, on the reporter's thread, which requests a change of the tree touches.

    Lengths are in units of the tree's keys. Of requests that are not all cached at most
    `max_tokens` are kept: those of which something went can grow no more first, then the oldest
    that are still on their way are no longer followed. Beyond `max_requests`, requests go of which
    nothing is cached any more, then the oldest, which are no longer followed.
    """

    def _start_over(self) -> None:
        super()._start_over()
        self._requests: OrderedDict[str, _Request] = OrderedDict()
        self._open: dict[Hashable, _Open] = {}
        self._kept_tokens = 0
        self._coming: OrderedDict[str, None] = OrderedDict()  # never complete so far
        self._shrunk: OrderedDict[str, None] = OrderedDict()  # were complete, and may be again
        self._dead: OrderedDict[str, None] = OrderedDict()  # of which nothing is left

    def _apply(self, step: Step) -> None:
        if isinstance(step, Grown):
            self._grow(step)
        elif isinstance(step, Shrunk):
            self._shrink(step)
        elif isinstance(step, Admitted):
            self._admit(step)
        elif isinstance(step, Lost):
            self._let_go(list(step.branch.members))
        elif step.lost:
            self._let_go(list(self._requests.values()))
        else:
            self._empty()

    def _admit(self, step: Admitted) -> None:
        known = self._requests.get(step.request)
        tokens = self._packed(step.tokens)
        prompt_tokens = len(tokens) // WIDTH + self.paired
        request = _Request(step.request, tokens, step.namespace, self.page_size, prompt_tokens)
        if known is not None:
            if self._is_same(known, request):
                self._requests.move_to_end(step.request)
                return
            self._drop(known)
            if known.length:
                self._mark(known.name, Mark(0, known.prompt_tokens))
        if not request.complete:  # shorter than a page: nothing of it is ever cached
            self.unfollow(request.name)
            return
        self._requests[step.request] = request
        self._coming[step.request] = None
        self._kept_tokens += len(tokens) // WIDTH
        self._enter(request)
        self._bound()

    def _is_same(self, known: _Request, request: _Request) -> bool:
        if (known.namespace, known.complete) != (request.namespace, request.complete):
            return False
        tokens = known.tokens or self._packed(known.branch.tokens() if known.branch else ())
        length = known.complete * WIDTH
        return tokens[:length] == request.tokens[:length]

    def _bound(self) -> None:
        while self._kept_tokens > self.max_tokens and len(self._requests) > 1:
            if self._shrunk:
                self._settle_for_less(self._requests[next(iter(self._shrunk))])
            elif len(self._coming) > 1:
                self._let_go([self._requests[next(iter(self._coming))]])
            else:
                break
        while len(self._requests) > self.max_requests:
            if self._dead:  # the index knows already that nothing of it is left
                self._drop(self._requests[next(iter(self._dead))])
            else:
                self._let_go([next(iter(self._requests.values()))])

    def _settle_for_less(self, request: _Request) -> None:
        """Keep the tokens of a request no longer: what went of it will not be seen to come back."""
        self._leave(request)
        self._kept_tokens -= len(request.tokens) // WIDTH
        request.tokens, request.complete = b"", request.length
        self._shrunk.pop(request.name, None)
        if not request.length:
            self._drop(request)

    def _grow(self, step: Grown) -> None:
        opened = self._open.get(step.namespace)
        if not opened:
            return
        tokens = self._packed(step.tokens)
        for length in [length for length in opened if length < step.length]:
            start = length * WIDTH
            alike = opened.get(length, {}).get(tokens[start : start + WIDTH])
            for number, request in enumerate(list(alike or ()), 1):
                self._extend(request, tokens, step)
                if number % SLICE == 0:
                    time.sleep(0)

    def _extend(self, request: _Request, tokens: bytes, step: Grown) -> None:
        limit = min(step.length, request.complete) * WIDTH
        shared = common_prefix(tokens, request.tokens, limit) // WIDTH
        shared = shared // self.page_size * self.page_size
        if shared > request.length:
            self._place(request, shared, step.branch)

    def _shrink(self, step: Shrunk) -> None:
        tokens = b""
        for number, request in enumerate(list(step.branch.members), 1):
            if request.length > step.length and not request.tokens:
                tokens = tokens or self._packed(step.tokens)
                self._keep_tokens(request, tokens)
            self._place(request, min(request.length, step.length), step.into)
            if number % SLICE == 0:
                time.sleep(0)
        self._bound()

    def _keep_tokens(self, request: _Request, tokens: bytes) -> None:
        """Take the tokens of a request back from its branch, so that it may grow again."""
        if len(tokens) >= request.complete * WIDTH:
            request.tokens = tokens[: request.complete * WIDTH]
            self._kept_tokens += request.complete
            self._shrunk[request.name] = None

    def _place(self, request: _Request, length: int, branch: Branch | None) -> None:
        if branch is not request.branch:
            if request.branch is not None:
                request.branch.members.discard(request)
            if branch is not None:
                branch.members.add(request)
            request.branch = branch
        if length == request.length:
            return
        self._leave(request)
        request.length = length
        if length < request.complete:
            self._enter(request)
        else:
            self._kept_tokens -= len(request.tokens) // WIDTH
            request.tokens = b""
            self._coming.pop(request.name, None)
            self._shrunk.pop(request.name, None)
        self._dead.pop(request.name, None)
        if not length:
            self._dead[request.name] = None
        told = self._told(length, request.prompt_tokens)
        self._mark(request.name, Mark(told, request.prompt_tokens))

    def _enter(self, request: _Request) -> None:
        if request.tokens:
            opened = self._open.setdefault(request.namespace, {})
            opened.setdefault(request.length, {}).setdefault(request.next_token(), set()).add(
                request
            )

    def _leave(self, request: _Request) -> None:
        if request.length >= request.complete or not request.tokens:
            return
        opened = self._open[request.namespace]
        by_token = opened[request.length]
        token = request.next_token()
        by_token[token].discard(request)
        if not by_token[token]:
            del by_token[token]
        if not by_token:
            del opened[request.length]
        if not opened:
            del self._open[request.namespace]

    def _let_go(self, requests: list[_Request]) -> None:
        """Follow requests no longer: what is left of them is unknown."""
        self.dropped += len(requests)
        for request in requests:
            self._drop(request)
            self.unfollow(request.name)

    def _drop(self, request: _Request) -> None:
        if request.branch is not None:
            request.branch.members.discard(request)
            request.branch = None
        self._leave(request)
        self._kept_tokens -= len(request.tokens) // WIDTH
        for names in (self._requests, self._coming, self._shrunk, self._dead):
            names.pop(request.name, None)

    def _empty(self) -> None:
        packed: dict[Branch, bytes] = {}
        for number, request in enumerate(list(self._requests.values()), 1):
            branch = request.branch
            if branch is not None and not request.tokens:
                if branch not in packed:
                    packed[branch] = self._packed(branch.tokens())
                self._keep_tokens(request, packed[branch])
            self._place(request, 0, None)
            if number % SLICE == 0:
                self._bound()
                time.sleep(0)
        self._bound()
        self._clear_marks()

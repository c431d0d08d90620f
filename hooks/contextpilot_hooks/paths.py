"""The ledger of a radix tree that can be reused at certain lengths only (hybrid models in SGLang).

The scheduler tells facts about whole paths: of this key, so many units are in the tree, these of
them have their sliding window's cache, and at these lengths there is a state. A fact holds for
every prompt as far as it is the same as the key. The prompts of the requests that are followed are
a tree of pages here, with the facts where they are; at which lengths a request can be reused, its
points (see `points`), follows from those on its way:

    ledger = PathLedger(page_size=1, window=128)
    ledger.hand_over(Admitted("cp-...", tokens, namespace))
    ledger.hand_over(Told(tokens, 2400, namespace, 2400, [(1, 900)], [(1, 2400)]))
    ledger.hand_over(Told(tokens, 2400, namespace, 1200, [(1, 900)], [(1, 1200)]))

| facts  | ranges, first and last, ascending                                                     |
|--------|---------------------------------------------------------------------------------------|
| window | units that have it, the first unit being 1; all that are there, where layers have none |
| states | lengths at which one ends; all that are there, where layers have none                  |

A part of the tree without facts has no points: what was not told is unknown.
"""

from __future__ import annotations

import functools
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

from .ledger import MAX_REQUESTS, Mark, Points, limited
from .steps import MAX_TOKENS, SLICE, Admitted, Emptied, StepLedger
from .units import WIDTH, common_prefix


class Facts(NamedTuple):
    """What is known of some units (see the module)."""

    window: Points = ()
    states: Points = ()

    def within(self, start: int, end: int) -> Facts:
        """What is behind `start` and up to `end`."""
        return Facts(_within(self.window, start, end), _within(self.states, start, end))

    def joined(self, after: Facts) -> Facts:
        """These, and those of what comes after."""
        return Facts(_joined(self.window, after.window), _joined(self.states, after.states))


class Told(NamedTuple):
    """Of `tokens[:asked]`, the first `length` are in the tree. Lengths are in the keys' units.

    `window` and `states` are facts; ranges of the window may be of one node each.
    """

    tokens: Iterable[int]
    asked: int
    namespace: Hashable
    length: int
    window: Sequence[tuple[int, int]]
    states: Sequence[tuple[int, int]]


class _Part:
    """A run of units that some prompts share, from `start` on."""

    __slots__ = ("children", "facts", "parent", "requests", "start", "units")

    def __init__(self, units: bytes, start: int, parent: _Part | None) -> None:
        self.units = units
        self.start = start
        self.parent = parent
        self.children: dict[bytes, _Part] = {}
        self.facts = Facts()
        self.requests: set[_Request] = set()

    @property
    def end(self) -> int:
        return self.start + len(self.units) // WIDTH


class _Request:
    __slots__ = ("name", "namespace", "part", "points", "prompt_tokens")

    def __init__(self, name: str, namespace: Hashable, part: _Part, prompt_tokens: int) -> None:
        self.name = name
        self.namespace = namespace
        self.part = part
        self.prompt_tokens = prompt_tokens
        self.points: Points = ()


class PathLedger(StepLedger):
    """The points of each request; `window` are the units that a sliding window needs.

    Of all prompts together at most `max_tokens` units are kept, what they share once. Beyond that,
    or `max_requests`, requests go of which nothing can be reused any more, then the oldest, which
    are no longer followed.
    """

    def __init__(
        self,
        page_size: int,
        max_requests: int = MAX_REQUESTS,
        max_tokens: int = MAX_TOKENS,
        paired: bool = False,
        window: int = 0,
    ) -> None:
        super().__init__(page_size, max_requests, max_tokens, paired)
        self.window = window
        self.ahead = int(paired)
        self.granule = 1 if paired else page_size
        """What points are told in: of pairs each whole page needs one token more."""
        self._page = page_size * WIDTH

    def _start_over(self) -> None:
        super()._start_over()
        self._roots: dict[Hashable, _Part] = {}
        self._requests: OrderedDict[str, _Request] = OrderedDict()
        self._dead: OrderedDict[str, None] = OrderedDict()
        self._kept = 0

    def _apply(self, step: Admitted | Told | Emptied) -> None:
        if isinstance(step, Told):
            self._learn(step)
        elif isinstance(step, Admitted):
            self._admit(step)
        elif step.lost:
            self._let_go(list(self._requests.values()))
        else:
            self._empty()

    def _admit(self, step: Admitted) -> None:
        units = self._packed(step.tokens)
        prompt_tokens = len(units) // WIDTH + self.paired
        units = units[: len(units) // WIDTH // self.page_size * self.page_size * WIDTH]
        known = self._requests.get(step.request)
        if not units:  # shorter than a page: nothing of it is ever cached
            self._replace(known)
            self.unfollow(step.request)
            return
        part = self._path(step.namespace, units)
        if known is not None and known.part is part:
            self._requests.move_to_end(step.request)
            return
        request = _Request(step.request, step.namespace, part, prompt_tokens)
        part.requests.add(request)
        self._replace(known)
        self._requests[step.request] = request
        self._tell(request, self._points(_before(part).joined(part.facts)))
        self._bound()

    def _replace(self, known: _Request | None) -> None:
        if known is not None:
            self._drop(known)
            if known.points:
                self._mark(known.name, Mark(0, known.prompt_tokens, points=()))

    def _path(self, namespace: Hashable, units: bytes) -> _Part:
        """The part that ends with these units, made when absent."""
        part = self._roots.get(namespace)
        if part is None:
            part = self._roots[namespace] = _Part(b"", 0, None)
        place = 0
        while place < len(units):
            child = part.children.get(units[place : place + self._page])
            if child is None:
                child = _Part(units[place:], place // WIDTH, part)
                part.children[units[place : place + self._page]] = child
                self._kept += len(child.units) // WIDTH
                return child
            shared = self._shared(child, units, place)
            part = child if shared == len(child.units) else self._split(child, shared)
            place += shared
        return part

    def _shared(self, part: _Part, units: bytes, place: int) -> int:
        """Bytes of whole pages of a part that are the same as the units from `place` on."""
        limit = min(len(part.units), len(units) - place)
        found = common_prefix(part.units, units[place : place + limit], limit)
        return found // self._page * self._page

    def _split(self, part: _Part, at: int) -> _Part:
        """Make a part of the first `at` bytes of another; return it."""
        assert part.parent is not None
        upper = _Part(part.units[:at], part.start, part.parent)
        part.parent.children[part.units[: self._page]] = upper
        middle, end = upper.end, part.end
        upper.facts = part.facts.within(upper.start, middle)
        part.units, part.start, part.parent = part.units[at:], middle, upper
        part.facts = part.facts.within(middle, end)
        upper.children[part.units[: self._page]] = part
        return upper

    def _learn(self, step: Told) -> None:
        part = self._roots.get(step.namespace)
        if part is None:
            return
        length = step.length
        facts = Facts(_merged(step.window), tuple(step.states))
        units = self._packed(step.tokens)[: min(step.asked, length + self.page_size) * WIDTH]
        place, highest = 0, None
        while place < len(units):
            child = part.children.get(units[place : place + self._page])
            if child is None:
                break
            shared = self._shared(child, units, place)
            place += shared
            # Whoever goes on by a page as what is gone does has nothing behind it, either.
            is_gone = place == (length + self.page_size) * WIDTH
            known = facts.within(child.start, min(place // WIDTH, length))
            rest = Facts() if is_gone else child.facts.within(place // WIDTH, child.end)
            changed = _set(child, known.joined(rest))
            if is_gone:
                for below in _below(child):
                    changed = _set(below, Facts()) or changed
            highest = highest or (child if changed else None)
            if is_gone or shared < len(child.units):
                break
            part = child
        if highest is not None:
            self._tell_below(highest)

    def _tell_below(self, highest: _Part) -> None:
        stack = [(highest, _before(highest))]
        work = 0
        while stack:
            part, before = stack.pop()
            facts = before.joined(part.facts)
            if part.requests:
                points = self._points(facts)
                for request in part.requests:
                    self._tell(request, points)
            stack.extend((child, facts) for child in part.children.values())
            work += 1
            if work % SLICE == 0:
                time.sleep(0)

    def _points(self, facts: Facts) -> Points:
        """Where a state ends and the window before it, or all from the start, is there."""
        page, found = self.page_size, list[tuple[int, int]]()
        for first, last in facts.window:
            reach = first if first == 1 else max(first, first - 1 + self.window)
            for start, end in _within(facts.states, reach - 1, last):
                whole = -(-start // page) * page, end // page * page
                if whole[0] <= whole[1]:
                    found.append(whole)
        return tuple(found)

    def _tell(self, request: _Request, points: Points) -> None:
        if points == request.points:
            return
        had, request.points = request.points, points
        told = limited(self._in_tokens(points) if self.paired else points)
        tokens = told[-1][1] if told else 0
        shrunk = bool(had) and (not points or points[-1][1] < had[-1][1])
        self._mark(request.name, Mark(tokens, request.prompt_tokens, shrunk, points=told))
        self._dead.pop(request.name, None)
        if not points:
            self._dead[request.name] = None

    def _in_tokens(self, points: Points) -> Points:
        """What must be shared to reuse these units of pairs."""
        if self.page_size == 1:
            return tuple((first + 1, last + 1) for first, last in points)
        lengths = (range(first, last + 1, self.page_size) for first, last in points)
        return tuple((length + 1, length + 1) for each in lengths for length in each)

    def _bound(self) -> None:
        while len(self._requests) > self.max_requests or (
            self._kept > self.max_tokens and len(self._requests) > 1
        ):
            if self._dead:  # the index knows already that nothing of it is left
                self._drop(self._requests[next(iter(self._dead))])
            else:
                self._let_go([next(iter(self._requests.values()))])

    def _let_go(self, requests: list[_Request]) -> None:
        """Follow requests no longer: what is left of them is unknown."""
        self.dropped += len(requests)
        for request in requests:
            self._drop(request)
            self.unfollow(request.name)

    def _drop(self, request: _Request) -> None:
        self._requests.pop(request.name, None)
        self._dead.pop(request.name, None)
        part = request.part
        part.requests.discard(request)
        while part.parent is not None and not part.requests and not part.children:
            self._kept -= len(part.units) // WIDTH
            del part.parent.children[part.units[: self._page]]
            part = part.parent
        if part.parent is None and not part.children:
            self._roots.pop(request.namespace, None)

    def _empty(self) -> None:
        for root in self._roots.values():
            for part in _below(root):
                part.facts = Facts()
        for request in self._requests.values():
            if request.points:
                request.points = ()
                self._dead[request.name] = None
        self._clear_marks()


def _set(part: _Part, facts: Facts) -> bool:
    """Note facts; whether they are news."""
    changed = part.facts != facts
    part.facts = facts
    return changed


def _within(ranges: Points, start: int, end: int) -> Points:
    """What of ranges is behind `start` and up to `end`."""
    return tuple(
        (max(first, start + 1), min(last, end))
        for first, last in ranges
        if last > start and first <= end
    )


def _merged(ranges: Iterable[tuple[int, int]]) -> Points:
    """Ascending ranges; what touches is one."""
    found: list[tuple[int, int]] = []
    for first, last in ranges:
        if found and found[-1][1] + 1 == first:
            first, _ = found.pop()
        found.append((first, last))
    return tuple(found)


def _joined(before: Points, after: Points) -> Points:
    """Ranges one behind the other; what touches is one."""
    if before and after and before[-1][1] + 1 == after[0][0]:
        return (*before[:-1], (before[-1][0], after[0][1]), *after[1:])
    return before + after


def _before(part: _Part) -> Facts:
    """What is known of all before a part."""
    above: list[Facts] = []
    while part.parent is not None:
        part = part.parent
        above.append(part.facts)
    return functools.reduce(Facts.joined, reversed(above), Facts())


def _below(part: _Part) -> Iterator[_Part]:
    stack = list(part.children.values())
    while stack:
        found = stack.pop()
        yield found
        stack.extend(found.children.values())

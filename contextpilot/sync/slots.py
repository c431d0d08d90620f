"""Turns what llama-server's slots hold into what is left of each request.

A slot event counts tokens and names no request; an answer names its request, its prompt tokens and
those of them that were cached. The run of a request is found by both: the slot was cut to the
cached tokens and then grew over the rest of the prompt. What is not found is not claimed.

    slot 0:  |0 ----- run 1 ------ 603|         request A: cached 0, prompt 600
             |0 -- 300|-- run 2 -- 520|         request B: cached 300, prompt 518; A keeps 300
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from typing import NamedTuple

from contextpilot.sync.events import Event, Kind, SlotEvent

SETTLE_S = 1.0
"""Time after which the events that belong to an answer are taken to be in."""
EXPIRE_S = 15.0
"""Time after which an answer without a run counts as unmatched."""
_MAX_RUNS = 256
"""Recent runs per slot among which that of an answer is looked for."""
_MAX_STARTS = 4096
_MAX_HELD = 64
_MAX_FILES = 256
_MAX_PENDING = 256


class Answer(NamedTuple):
    """What the answer to a request told of its prompt.

    Attributes:
        slot: the slot that it ran in; None when not known.
        cached, prompt: prompt tokens found in the cache, and all of them.
        generated: tokens of the answer; None when not known.
        since: `SlotTranslator.position` when the request was sent.
        group: requests of different groups share no path in the index.
    """

    request: str
    slot: int | None
    cached: int
    prompt: int
    generated: int | None = None
    since: int = 0
    group: str = ""


class Counts(NamedTuple):
    """Answers whose run was found, and those whose was not."""

    matched: int = 0
    unmatched: int = 0


class _Held:
    """The tokens in a slot, or in a copy of one; `runs` are ordered, each holds as much as those
    before it or more."""

    def __init__(self, num_bytes: int | None = None) -> None:
        self.tokens = 0
        self.runs: list[_Run] = []
        self.num_bytes = num_bytes
        """Size of a copy in the RAM cache; None for slots."""
        self.counts = True
        """Whether requests find what is held here."""

    def leading(self, run: _Run) -> int:
        """Return how many leading tokens of a run's content a request would find here."""
        tokens = run.places[self]
        if self.num_bytes is not None and 4 * tokens < self.tokens:
            return 0  # llama-server restores no copy of which it would use less than a quarter
        return tokens if self.counts else 0


@dataclass(eq=False)
class _Run:
    """A slot's growth without a cut.

    Attributes:
        starts, born: token counts at which it grew on, and the positions of those events.
        reach: the most tokens that the slot held by it.
        places: where its content still is, and how many leading tokens of it.
        ends: token counts at which a request ended and the next one went on.
        names: its requests and their prompt tokens; `groups` are theirs.
    """

    slot: int
    starts: list[int] = field(default_factory=list)
    born: list[int] = field(default_factory=list)
    reach: int = 0
    ends: set[int] = field(default_factory=set)
    places: dict[_Held, int] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)

    def fits(self, answer: Answer) -> bool:
        """Return whether an answer's request may have made this run."""
        at = bisect_left(self.starts, answer.cached)
        return (
            at < len(self.starts)
            and self.starts[at] == answer.cached
            and self.born[at] > answer.since
            and self.reach >= answer.prompt
        )

    def ends_with(self, answer: Answer) -> bool:
        """Return whether a request ended where the answer did."""
        if answer.generated is None:
            return True
        end = answer.prompt + max(0, answer.generated - 1)  # the last token is not computed
        return end == self.reach or end in self.ends


@dataclass
class _Pending:
    answer: Answer
    came: float


class SlotTranslator:
    """The slots of one llama-server, from its start to its end. Its owner holds the lock.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._slots: dict[int, _Held] = {}
        self._open: dict[int, _Run] = {}
        self._recent: dict[int, deque[_Run]] = {}
        self._copies: OrderedDict[str, _Held] = OrderedDict()
        self._ram_limit: int | None = None
        self._runs: dict[str, _Run] = {}
        self._believed: dict[str, int] = {}
        self._touched: dict[str, None] = {}
        self._pending: deque[_Pending] = deque()
        self.position = 0
        self.num_cuts = 0
        self.counts = Counts()

    def limit_ram(self, num_bytes: int) -> None:
        """Learn the size of llama-server's RAM prompt cache; until then its copies count as gone.

        0: there is none.
        """
        self._ram_limit = num_bytes
        for copy in self._copies.values():
            copy.counts = copy.num_bytes is not None
            for run in copy.runs:
                self._touch(run)

    # -- what comes in ---------------------------------------------------------------------------

    def apply(self, events: Iterable[SlotEvent], *, snapshot: bool = False) -> list[Event]:
        """Apply events; return what they mean for the requests that are known."""
        if snapshot:
            self._take_snapshot(list(events))
        else:
            for event in events:
                self.position += 1
                self._apply(event)
        self._match_pending()
        return self._tell()

    def answer(self, answer: Answer) -> list[Event]:
        """Note that a request was answered; its events may be in or not."""
        if not self._match(answer, 0.0):
            self._pending.append(_Pending(answer, self._clock()))
            if len(self._pending) > _MAX_PENDING:
                self._give_up(self._pending.popleft().answer)
        return self._tell()

    def abandon(self, request: str) -> list[Event]:
        """Note that a request was broken off: what became of it will not be known."""
        self._touched[request] = None
        self._believed.setdefault(request, 1)
        return self._tell()

    def clear(self) -> None:
        """Forget all slots and copies, files apart."""
        self.position += 1
        for slot in list(self._slots):
            self._empty(slot)
        for name, copy in list(self._copies.items()):
            if copy.num_bytes is not None:
                self._drop(name)

    # -- what is known ---------------------------------------------------------------------------

    def tokens(self, slot: int) -> int:
        """Return how many tokens a slot holds."""
        held = self._slots.get(slot)
        return held.tokens if held is not None else 0

    def requests(self, slot: int) -> list[tuple[str, int]]:
        """Return the requests of which a slot holds leading prompt tokens, and how many."""
        held = self._slots.get(slot)
        return list(_named(held)) if held is not None else []

    @property
    def num_pending(self) -> int:
        """Answers whose runs are not found yet."""
        return len(self._pending)

    def is_pending(self, request: str) -> bool:
        """Return whether a request was answered, and its run is not found yet."""
        return any(pending.answer.request == request for pending in self._pending)

    def has_copies(self) -> bool:
        """Return whether llama-server's RAM cache holds anything."""
        return any(copy.num_bytes is not None for copy in self._copies.values())

    def believed(self) -> dict[str, int]:
        """Return for each known request how many leading prompt tokens can be found."""
        return {request: tokens for request, tokens in self._believed.items() if tokens}

    # -- events ----------------------------------------------------------------------------------

    def _apply(self, event: SlotEvent) -> None:
        if event.kind == "slot":
            self._move(event.slot, event.keep, event.tokens)
        elif event.kind == "copied":
            self._empty(event.to)
            self._copy(self._held(event.slot), self._held(event.to))
        elif event.kind == "saved":
            self._save(event)
        elif event.kind == "loaded":
            self._load(event)
        else:
            self.clear()

    def _move(self, slot: int, keep: int, tokens: int) -> None:
        held = self._held(slot)
        run = self._open.get(slot)
        if keep != held.tokens:
            self._cut(held, keep)
            self._open.pop(slot, None)
            run = None
        held.tokens = tokens
        if tokens == keep:
            if run is not None:
                run.ends.add(keep)
            return
        if run is None:
            run = self._open[slot] = _Run(slot)
            self._recent.setdefault(slot, deque(maxlen=_MAX_RUNS)).append(run)
            held.runs.append(run)
            self._shorten(held)
        if len(run.starts) < _MAX_STARTS:
            run.starts.append(keep)
            run.born.append(self.position)
        run.reach = run.places[held] = tokens
        self._touch(run)

    def _save(self, event: SlotEvent) -> None:
        is_file = event.copy.startswith("file-")
        self._drop(event.copy)
        copy = self._copies[event.copy] = _Held(None if is_file else event.num_bytes)
        copy.counts = not is_file and self._ram_limit is not None
        source = self._held(event.slot)
        self._copy(source, copy)
        if is_file:
            self._bound_files()
        else:
            self._bound_ram(event.copy, copy)

    def _load(self, event: SlotEvent) -> None:
        copy = self._copies.get(event.copy)
        self._empty(event.slot)
        held = self._held(event.slot)
        if copy is not None:
            self._copy(copy, held)
            self._cut(held, event.tokens)
            if copy.num_bytes is not None:
                self._drop(event.copy)
        held.tokens = event.tokens

    def _take_snapshot(self, events: Sequence[SlotEvent]) -> None:
        """Take what is left of the slots; what ran while events were lost has no name."""
        self.position += 1
        said = {event.slot: event for event in events if event.kind == "slot"}
        copies = {event.copy for event in events if event.kind == "saved"}
        for slot in [slot for slot in self._slots if slot not in said]:
            self._empty(slot)
        for slot, event in said.items():
            held = self._held(slot)
            self._cut(held, event.keep)
            held.tokens = event.tokens
        for name, copy in list(self._copies.items()):
            if name not in copies and copy.num_bytes is not None:
                self._drop(name)
        self._open.clear()
        self._recent.clear()
        while self._pending:
            self._give_up(self._pending.popleft().answer)

    # -- slots and copies ------------------------------------------------------------------------

    def _held(self, slot: int) -> _Held:
        held = self._slots.get(slot)
        if held is None:
            held = self._slots[slot] = _Held()
        return held

    def _cut(self, held: _Held, keep: int) -> None:
        """Keep the first tokens only."""
        held.tokens = min(held.tokens, keep)
        for run in reversed(held.runs):
            if run.places[held] <= keep:
                break
            run.places[held] = keep
            self._touch(run)
        if not keep:
            for run in held.runs:
                del run.places[held]
            held.runs.clear()

    def _empty(self, slot: int) -> None:
        self._cut(self._held(slot), 0)
        self._open.pop(slot, None)

    def _copy(self, source: _Held, target: _Held) -> None:
        target.tokens = source.tokens
        target.runs = list(source.runs)
        for run in source.runs:
            run.places[target] = run.places[source]
            self._touch(run)

    def _drop(self, name: str) -> None:
        copy = self._copies.pop(name, None)
        if copy is not None:
            self._cut(copy, 0)

    def _shorten(self, held: _Held) -> None:
        if len(held.runs) > _MAX_HELD:
            oldest = held.runs.pop(0)
            oldest.places.pop(held, None)
            self._touch(oldest)

    def _bound_ram(self, name: str, copy: _Held) -> None:
        """Drop what llama-server drops: what the new copy begins with, then the oldest."""
        ram = {n: c for n, c in self._copies.items() if c.num_bytes is not None and n != name}
        for other, older in list(ram.items()):
            if older.runs and older.runs[-1].places.get(copy, 0) >= older.tokens:
                self._drop(other)
                del ram[other]
        if self._ram_limit is None:
            return
        total = sum(c.num_bytes or 0 for c in ram.values()) + (copy.num_bytes or 0)
        for other, older in ram.items():
            if total <= self._ram_limit:
                break
            total -= older.num_bytes or 0
            self._drop(other)

    def _bound_files(self) -> None:
        files = [name for name, copy in self._copies.items() if copy.num_bytes is None]
        if len(files) > _MAX_FILES:
            self._drop(files[0])

    # -- answers ---------------------------------------------------------------------------------

    def _match_pending(self) -> None:
        now = self._clock()
        waiting: deque[_Pending] = deque()
        while self._pending:
            pending = self._pending.popleft()
            if not self._match(pending.answer, now - pending.came):
                waiting.append(pending)
        self._pending = waiting

    def _match(self, answer: Answer, age: float) -> bool:
        """Find the run of an answer; return whether the answer is done with.

        Of two runs that fit alike, neither is taken. One that fits may be another's while the
        right one's events are on their way, unless it also ends where the answer did.
        """
        found = [run for run in self._candidates(answer) if run.fits(answer)]
        exact = [run for run in found if run.ends_with(answer)]
        settled, pinned = age >= SETTLE_S, answer.slot is not None
        if len(exact) == 1 and (settled or pinned):
            self._name(exact[0], answer)
        elif len(found) == 1 and settled and pinned:
            self._name(found[0], answer)
        elif age >= EXPIRE_S or (settled and found):
            self._give_up(answer)
        else:
            return False
        return True

    def _candidates(self, answer: Answer) -> Iterator[_Run]:
        if answer.slot is not None:
            yield from self._recent.get(answer.slot, ())
        else:
            for runs in self._recent.values():
                yield from runs

    def _name(self, run: _Run, answer: Answer) -> None:
        self.counts = self.counts._replace(matched=self.counts.matched + 1)
        run.names[answer.request] = answer.prompt
        run.groups[answer.request] = answer.group
        self._runs[answer.request] = run
        self._believed.setdefault(answer.request, -1)
        self._touched[answer.request] = None

    def _give_up(self, answer: Answer) -> None:
        self.counts = self.counts._replace(unmatched=self.counts.unmatched + 1)
        self._believed.setdefault(answer.request, 1)
        self._touched[answer.request] = None

    # -- what goes out ---------------------------------------------------------------------------

    def _touch(self, run: _Run) -> None:
        self._touched.update(dict.fromkeys(run.names))

    def _tell(self) -> list[Event]:
        """Return what changed, and what a cut of the same path in the index would drop with it.

        The least comes first: the index cuts a path behind what it is told of a request, and what
        others hold of that path beyond this point is more.
        """
        told: dict[str, Event] = {}
        for request in self._touched:
            before, run = self._believed.get(request, 0), self._runs.get(request)
            now = self._found(run, run.names[request]) if run is not None else 0
            self.num_cuts += now < before
            if now != before:
                told[request] = self._event(request, now, now > before)
            self._believed[request] = now
            if run is None or not run.places:
                self._forget(request, run)
        self._touched.clear()
        least = min((e.tokens for e in told.values() if e.tokens != e.prompt_tokens), default=None)
        if least is not None:
            for request in self._topmost():
                if request not in told and self._believed[request] > least:
                    told[request] = self._event(request, self._believed[request], True)
        return sorted(told.values(), key=attrgetter("tokens"))

    def _event(self, request: str, tokens: int, has_grown: bool) -> Event:
        run = self._runs.get(request)
        kind: Kind = "cached" if has_grown and tokens else "truncated"
        return Event(kind, request, tokens, run.names[request] if run is not None else None)

    def _found(self, run: _Run, prompt: int) -> int:
        return max((min(prompt, held.leading(run)) for held in run.places), default=0)

    def _forget(self, request: str, run: _Run | None) -> None:
        self._believed.pop(request, None)
        if run is not None:
            del self._runs[request], run.names[request], run.groups[request]

    def _topmost(self) -> Iterator[str]:
        """Yield for each slot and copy, and each group, the request of which it holds most."""
        for held in (*self._slots.values(), *self._copies.values()):
            groups: set[str] = set()
            for run in reversed(held.runs):
                for request, _ in sorted(run.names.items(), key=itemgetter(1), reverse=True):
                    if self._believed.get(request, 0) > 0 and run.groups[request] not in groups:
                        groups.add(run.groups[request])
                        yield request


def _named(held: _Held) -> Iterator[tuple[str, int]]:
    for run in reversed(held.runs):
        for request, prompt in run.names.items():
            yield request, min(prompt, run.places[held])

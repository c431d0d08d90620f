"""Turns what llama-server's slots hold into what is left of each request.

A slot event counts tokens and names no request; an answer names its request, its prompt tokens and
those of them that were cached. The run of a request is found by both: the slot was cut to the
cached tokens and then grew over the rest of the prompt. What is not found is not claimed.

    slot 0:  |0 ----- run 1 ------ 603|         request A: cached 0, prompt 600
             |0 -- 300|-- run 2 -- 520|         request B: cached 300, prompt 518; A keeps 300
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from contextpilot.sync.events import Event, Kind, SlotEvent, SyncMessage
from contextpilot.sync.sources.base import PromptCounts, Source
from contextpilot.sync.sources.slot_contents import Contents, Run

SETTLE_S = 1.0
"""Time after which the events that belong to an answer are taken to be in."""
EXPIRE_S = 15.0
"""Time after which an answer without a run counts as unmatched."""
_MAX_PENDING = 256


class Counts(NamedTuple):
    """Answers whose run was found, and those whose was not."""

    matched: int = 0
    unmatched: int = 0


@dataclass
class _Pending:
    """An answer whose run is not found yet.

    Attributes:
        came: when, in seconds.
        found: runs that it may be of.
        exact: those of them that ended where the answer did.
    """

    answer: PromptCounts
    came: float
    found: set[Run] = field(default_factory=set)
    exact: set[Run] = field(default_factory=set)

    def look_at(self, run: Run) -> None:
        """Learn whether a run may be this answer's."""
        answer = self.answer
        if answer.slot not in (None, run.slot):
            return
        if run not in self.found and not run.fits(answer.cached, answer.prompt, answer.since):
            return
        self.found.add(run)
        if answer.generated is None or run.ends_with(answer.prompt, answer.generated):
            self.exact.add(run)
        else:
            self.exact.discard(run)


class SlotTranslator(Contents, Source):
    """The slots of one llama-server, from its start to its end. Its owner holds the lock.

    Args:
        clock: seconds, monotonic.

    Attributes:
        counts: answers that were matched, and those that were not.
    """

    is_final = True
    is_asked_while_planning = True
    is_named_by_address = True

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        Contents.__init__(self)
        Source.__init__(self, clock)
        self._runs: dict[str, Run] = {}
        self._believed: dict[str, int] = {}
        self._touched: dict[str, None] = {}
        self._pending: deque[_Pending] = deque()
        self.num_cuts = 0
        self.counts = Counts()

    # -- what comes in ---------------------------------------------------------------------------

    def read(self, message: SyncMessage) -> list[Event]:
        """Take a message of the shim; return what it means for the requests that are known."""
        if message.ram_limit_bytes is not None:
            self.limit_ram(message.ram_limit_bytes)
        return self.apply(message.slot_events, snapshot=message.snapshot)

    def apply(self, events: Iterable[SlotEvent], *, snapshot: bool = False) -> list[Event]:
        """Apply events; return what they mean for the requests that are known."""
        if snapshot:
            self.take_snapshot(list(events))
            while self._pending:
                self._give_up(self._pending.popleft().answer)
            self._believed = dict.fromkeys(self._believed, -1)  # to be told again
            self._touched.update(dict.fromkeys(self._believed))
        else:
            for event in events:
                self.take(event)
        self._match_pending()
        return self._tell()

    def answered(self, answer: PromptCounts) -> list[Event]:
        """Note that a request was answered; its events may be in or not."""
        pending = _Pending(answer, self._clock())
        for run in self.recent(answer.slot, answer.since):
            pending.look_at(run)
        if not self._match(pending, 0.0):
            self._pending.append(pending)
            if len(self._pending) > _MAX_PENDING:
                self._give_up(self._pending.popleft().answer)
        return self._tell()

    def broken_off(self, request: str) -> list[Event]:
        """Note that a request was broken off: what became of it will not be known."""
        self._touched[request] = None
        self._believed.setdefault(request, 1)
        return self._tell()

    # -- what is known ---------------------------------------------------------------------------

    @property
    def holdings(self) -> SlotTranslator:
        """What the slots hold."""
        return self

    def state(self) -> dict[str, Any]:
        """Return how many answers were matched, and how many were not."""
        return {f"num_{name}": count for name, count in self.counts._asdict().items()}

    @property
    def num_pending(self) -> int:
        """Answers whose runs are not found yet."""
        return len(self._pending)

    def is_pending(self, request: str) -> bool:
        """Return whether a request was answered, and its run is not found yet."""
        return any(pending.answer.request == request for pending in self._pending)

    def believed(self) -> dict[str, int]:
        """Return for each known request how many leading prompt tokens can be found."""
        return {request: tokens for request, tokens in self._believed.items() if tokens}

    # -- answers ---------------------------------------------------------------------------------

    def _match_pending(self) -> None:
        now, grown = self._clock(), list(self.grown_runs)
        self.grown_runs.clear()
        waiting: deque[_Pending] = deque()
        while self._pending:
            pending = self._pending.popleft()
            for run in grown:
                pending.look_at(run)
            if not self._match(pending, now - pending.came):
                waiting.append(pending)
        self._pending = waiting

    def _match(self, pending: _Pending, age: float) -> bool:
        """Find the run of an answer; return whether the answer is done with.

        Of two runs that fit alike, neither is taken. One that fits may be another's while the
        right one's events are on their way, unless it also ends where the answer did.
        """
        answer = pending.answer
        found = {run for run in pending.found if answer.cached not in run.taken}
        exact = pending.exact & found
        settled, pinned = age >= SETTLE_S, answer.slot is not None
        if len(exact) == 1 and (settled or pinned):
            self._name(next(iter(exact)), answer)
        elif len(found) == 1 and settled and pinned:
            self._name(next(iter(found)), answer)
        elif age >= EXPIRE_S or (settled and found):
            self._give_up(answer)
        else:
            return False
        return True

    def _name(self, run: Run, answer: PromptCounts) -> None:
        self.counts = self.counts._replace(matched=self.counts.matched + 1)
        run.names[answer.request] = answer.prompt
        run.taken.add(answer.cached)
        self._runs[answer.request] = run
        self._believed.setdefault(answer.request, -1)
        self._touched[answer.request] = None

    def _give_up(self, answer: PromptCounts) -> None:
        self.counts = self.counts._replace(unmatched=self.counts.unmatched + 1)
        self._believed.setdefault(answer.request, 1)
        self._touched[answer.request] = None

    # -- what goes out ---------------------------------------------------------------------------

    def _tell(self) -> list[Event]:
        """Return what changed: of a request without a run, that it is not known."""
        told = []
        moved = dict.fromkeys(name for run in self.touched_runs for name in run.names)
        touched = moved | self._touched
        self.touched_runs.clear()
        self._touched.clear()
        for request in touched:
            before, run = self._believed.get(request, 0), self._runs.get(request)
            if run is None:
                self._believed.pop(request, None)
                told.append(Event("unfollowed", request))
                continue
            prompt = run.names[request]
            now = self._found(run, prompt)
            self.num_cuts += now < before
            if now != before:
                kind: Kind = "cached" if now > before and now else "truncated"
                told.append(Event(kind, request, now, prompt))
            self._believed[request] = now
            if not run.places:
                del self._believed[request], self._runs[request], run.names[request]
        return told

    def _found(self, run: Run, prompt: int) -> int:
        return max((min(prompt, held.leading(run)) for held in run.places), default=0)

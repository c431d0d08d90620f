"""What a llama-server's slots, and the copies that it made of them, hold: runs of tokens.

The rules by which copies go are those of llama-server's RAM prompt cache (llama.cpp b11434).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from contextpilot.engines.llamacpp import RESTORED
from contextpilot.sync.events import SlotEvent

_MAX_RUNS = 256
"""Recent runs per slot among which that of an answer is looked for."""
_MAX_STARTS = 4096
_MAX_HELD = 64
_MAX_FILES = 256
_MAX_COPIES = 4096
"""In RAM, whatever limit an engine tells."""


class Held:
    """The tokens in a slot, or in a copy of one; `runs` are ordered, each holds as much as those
    before it or more."""

    def __init__(self, num_bytes: int | None = None) -> None:
        self.tokens = 0
        self.runs: list[Run] = []
        self.num_bytes = num_bytes
        """Size of a copy in the RAM cache; None for slots."""
        self.counts = True
        """Whether requests find what is held here."""

    def requests(self) -> list[tuple[str, int]]:
        """Return the requests of which leading prompt tokens are here, and how many."""
        return [
            (request, min(prompt, run.places[self]))
            for run in reversed(self.runs)
            for request, prompt in run.names.items()
        ]

    def leading(self, run: Run) -> int:
        """Return how many leading tokens of a run's content a request would find here."""
        tokens = run.places[self]
        if self.num_bytes is not None and tokens < RESTORED * self.tokens:
            return 0
        return tokens if self.counts else 0


@dataclass(eq=False)
class Run:
    """A slot's growth without a cut.

    Attributes:
        starts, born: token counts at which it grew on, and the positions of those events.
        reach: the most tokens that the slot held by it.
        places: where its content still is, and how many leading tokens of it.
        ends: token counts at which a request ended and the next one went on.
        names: its requests and their prompt tokens.
        taken: the starts of those requests: each made its own.
    """

    slot: int
    starts: list[int] = field(default_factory=list)
    born: list[int] = field(default_factory=list)
    reach: int = 0
    ends: set[int] = field(default_factory=set)
    places: dict[Held, int] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)

    def fits(self, cached: int, prompt: int, since: int) -> bool:
        """Return whether a request that was sent at this position may have made the run."""
        at = bisect_left(self.starts, cached)
        return (
            at < len(self.starts)
            and self.starts[at] == cached
            and cached not in self.taken
            and self.born[at] > since
            and self.reach >= prompt
        )

    def ends_with(self, prompt: int, generated: int) -> bool:
        """Return whether a request of so many tokens ended here."""
        end = prompt + max(0, generated - 1)  # the last token is not computed
        return end == self.reach or end in self.ends


class Contents:
    """The slots of one llama-server.

    Attributes:
        position: counts the events.
        touched_runs: runs of which something came or went; whoever reads them clears this.
        grown_runs: runs that grew, or from which a request went on; likewise.
    """

    def __init__(self) -> None:
        self.position = 0
        self.touched_runs: dict[Run, None] = {}
        self.grown_runs: dict[Run, None] = {}
        self._slots: dict[int, Held] = {}
        self._open: dict[int, Run] = {}
        self._recent: dict[int, deque[Run]] = {}
        self._copies: OrderedDict[str, Held] = OrderedDict()
        self._ram_limit: int | None = None

    def limit_ram(self, num_bytes: int) -> None:
        """Learn the size of llama-server's RAM prompt cache; until then its copies count as gone.

        0: there is none.
        """
        self._ram_limit = num_bytes
        for copy in self._copies.values():
            copy.counts = copy.num_bytes is not None
            for run in copy.runs:
                self.touched_runs[run] = None

    # -- what comes in ---------------------------------------------------------------------------

    def take(self, event: SlotEvent) -> None:
        """Apply an event."""
        self.position += 1
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
                self.grown_runs[run] = None
            return
        if run is None:
            run = self._open[slot] = Run(slot)
            self._recent.setdefault(slot, deque(maxlen=_MAX_RUNS)).append(run)
            held.runs.append(run)
            self._shorten(held)
        if len(run.starts) < _MAX_STARTS:
            run.starts.append(keep)
            run.born.append(self.position)
        run.reach = run.places[held] = tokens
        self.touched_runs[run] = self.grown_runs[run] = None

    def _save(self, event: SlotEvent) -> None:
        is_file = event.copy.startswith("file-")
        self._drop(event.copy)
        copy = self._copies[event.copy] = Held(None if is_file else event.num_bytes)
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

    def take_snapshot(self, events: Sequence[SlotEvent]) -> None:
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
        return held.requests() if held is not None else []

    def has_copies(self) -> bool:
        """Return whether llama-server's RAM cache holds anything."""
        return any(copy.num_bytes is not None for copy in self._copies.values())

    def copies(self, slot: int) -> Iterator[tuple[int, list[tuple[str, int]]]]:
        """Yield the tokens of copies in the RAM cache, and their `requests`; the oldest first.

        Those that are left once a slot was saved there, as llama-server does before it looks for a
        copy: the oldest make room.
        """
        ram = [copy for copy in self._copies.values() if copy.num_bytes and copy.counts]
        room = (self._ram_limit or 0) - sum(copy.num_bytes or 0 for copy in ram)
        held = self._held(slot)
        if held.runs and not any(held.runs[-1].places.get(copy, 0) >= held.tokens for copy in ram):
            rates = [(copy.num_bytes or 0) / max(1, copy.tokens) for copy in ram]
            room -= round(max(rates, default=0.0) * held.tokens)
        for copy in ram:
            if room < 0:
                room += copy.num_bytes or 0
            else:
                yield copy.tokens, copy.requests()

    def recent(self, slot: int | None, since: int) -> Iterator[Run]:
        """Yield the runs of a slot that grew after a position; of all slots for None."""
        slots = self._recent.values() if slot is None else [self._recent.get(slot, ())]
        for runs in slots:
            yield from takewhile(lambda run: run.born[-1] > since, reversed(runs))

    # -- slots and copies ------------------------------------------------------------------------

    def _held(self, slot: int) -> Held:
        held = self._slots.get(slot)
        if held is None:
            held = self._slots[slot] = Held()
        return held

    def _cut(self, held: Held, keep: int) -> None:
        """Keep the first tokens only."""
        held.tokens = min(held.tokens, keep)
        for run in reversed(held.runs):
            if run.places[held] <= keep:
                break
            run.places[held] = keep
            self.touched_runs[run] = None
        if not keep:
            for run in held.runs:
                del run.places[held]
            held.runs.clear()

    def _empty(self, slot: int) -> None:
        self._cut(self._held(slot), 0)
        self._open.pop(slot, None)

    def _copy(self, source: Held, target: Held) -> None:
        target.tokens = source.tokens
        target.runs = list(source.runs)
        for run in source.runs:
            run.places[target] = run.places[source]
            self.touched_runs[run] = None

    def _drop(self, name: str) -> None:
        copy = self._copies.pop(name, None)
        if copy is not None:
            self._cut(copy, 0)

    def _shorten(self, held: Held) -> None:
        if len(held.runs) > _MAX_HELD:
            oldest = held.runs.pop(0)
            oldest.places.pop(held, None)
            self.touched_runs[oldest] = None

    def _bound_ram(self, name: str, copy: Held) -> None:
        """Drop what llama-server drops: what the new copy begins with, then the oldest."""
        ram = {n: c for n, c in self._copies.items() if c.num_bytes is not None and n != name}
        for other, older in list(ram.items()):
            if older.runs and older.runs[-1].places.get(copy, 0) >= older.tokens:
                self._drop(other)
                del ram[other]
        if len(ram) >= _MAX_COPIES:
            self._drop(next(iter(ram)))
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

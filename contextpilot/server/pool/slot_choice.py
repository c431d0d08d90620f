"""Which slot of a llama-server a request should take.

Each slot holds the prompt that it ran last. By itself the server takes the most similar slot, even
if that drops a long unrelated conversation while another slot is empty (llama.cpp b11434).

With `--kv-unified`, its default, it moves what idle slots hold into its RAM cache at each new
request, and from there it fills an empty slot only if it chose that slot itself. So where slots
empty by themselves, none is asked for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

from contextpilot.block import BlockKey
from contextpilot.engines.llamacpp import KEEPS_SLOT, RESTORED, SIMILAR
from contextpilot.sync.sources.base import SlotHoldings

_MAX_PROMPTS = 4096
_RECURS_OLDEST, _RECURS_NEWEST = 0.1, 0.15
"""Chance that what a slot would lose is asked for again; its worth: scripts/bench_slots.py."""
_MAX_MISSES = 2
_WORTH = 64
"""Expected tokens from which a miss tells that a slot does not hold what it should."""
_SIMILAR = 1.2 * SIMILAR
"""Part of a prompt that a slot must share to be chosen for that; more, as ours are estimates."""
_MAX_COPIES = 64
"""More copies in RAM than that are not looked through, and nothing is believed of them."""


class Prompt(NamedTuple):
    """A request's path in the index, and for each key the prompt tokens up to its end.

    Attributes:
        total: tokens of the whole prompt; the last end if 0. All are estimates until `counted`.
    """

    request: str
    keys: Sequence[BlockKey]
    ends: Sequence[int]
    total: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of the whole path."""
        return self.ends[-1] if self.ends else 0

    @property
    def whole(self) -> int:
        """Tokens of the whole prompt."""
        return self.total or self.tokens

    def counted(self, prompt_tokens: int) -> Prompt:
        """Return the prompt with its tokens in the engine's count, given that of all of it."""
        whole = self.whole
        if not whole:
            return self
        ends = [round(end * prompt_tokens / whole) for end in self.ends]
        return self._replace(ends=ends, total=prompt_tokens)

    def common(self, other: Prompt) -> int:
        """Return the leading blocks that two prompts have in common."""
        common = 0
        for mine, its in zip(self.keys, other.keys, strict=False):
            if mine != its:
                break
            common += 1
        return common

    def up_to(self, blocks: int) -> int:
        """Return the tokens of so many leading blocks."""
        return self.ends[blocks - 1] if blocks else 0

    def shared(self, other: Prompt) -> int:
        """Return the tokens of the common head of two prompts."""
        return self.up_to(self.common(other))


NO_PROMPT = Prompt("", (), ())


class Share(NamedTuple):
    """What is there of a prompt: leading blocks, whole ones, and tokens."""

    blocks: int = 0
    tokens: int = 0


@dataclass
class _Slot:
    number: int
    last: Prompt = NO_PROMPT
    expected: int = 0
    num_running: int = 0
    used: int = 0

    def is_told_of(self, holdings: SlotHoldings) -> bool:
        """Return whether what the engine told is newer than what we sent."""
        return not self.num_running and not holdings.is_pending(self.last.request)


class Slots:
    """The slots of one engine: as it tells, or as far as our own requests tell. For one thread."""

    def __init__(self, count: int) -> None:
        self._slots = [_Slot(number) for number in range(count)]
        self._elsewhere = _Slot(-1)
        """The last prompt of which the server chose the slot: it may be any of them."""
        self._prompts: OrderedDict[str, Prompt] = OrderedDict()
        self._clock = 0
        self._misses = 0

    def __len__(self) -> int:
        return len(self._slots)

    def take(self, prompt: Prompt, holdings: SlotHoldings | None = None) -> int | None:
        """Choose a slot for a prompt, and note that the prompt runs there; `free` must follow."""
        number = self.choose(prompt, holdings)
        return None if number is None else self.put(number, prompt)

    def choose(self, prompt: Prompt, holdings: SlotHoldings | None = None) -> int | None:
        """Choose a slot for a prompt.

        The one that runs most of the prompt now, which makes the request wait; else the idle slot
        that gains most: what it shares with the prompt, less the part of what it would lose that
        may be asked for again.

        Args:
            holdings: what the engine says that the slots hold; without, what we sent counts.

        Returns:
            The slot's number; None to leave the choice to the server.
        """
        if self._are_emptied(holdings):
            return None
        shared = self._all_shared(prompt, holdings)
        nearest = max(self._slots, key=lambda slot: (shared[slot.number], not slot.num_running))
        most = shared[nearest.number]
        if nearest.num_running and most and 2 * most >= prompt.tokens:
            return nearest.number
        idle = sorted(self._idle(), key=attrgetter("used"))
        if not idle:
            return None
        gains = [
            shared[slot.number]
            - self._recurrence(age, len(idle))
            * max(0, self._tokens(slot, holdings) - shared[slot.number])
            for age, slot in enumerate(idle)
        ]
        return idle[gains.index(max(gains))].number

    def found(
        self, prompt: Prompt, number: int | None, holdings: SlotHoldings | None = None
    ) -> int:
        """Return how many leading blocks of a prompt a slot has for it, at the least.

        Ask before the prompt is put there. What llama-server would load into the slot counts.

        Args:
            number: the slot; None where llama-server chooses: the most similar one, or else any.
        """
        if number is not None:
            blocks = self._found(self._at(number), prompt, holdings, True)
            return blocks if self._is_settled(holdings) else min(blocks, self._newest(prompt))
        if not self._is_settled(holdings):
            newest = self._newest(prompt)
            return newest if prompt.up_to(newest) > _SIMILAR * prompt.whole else 0
        shared = self._all_shared(prompt, holdings)
        slots = self._idle() or self._slots
        most = max(shared[slot.number] for slot in slots)
        if most > _SIMILAR * prompt.whole:
            slots = [slot for slot in slots if shared[slot.number] == most]
        return min(self._found(slot, prompt, holdings, False) for slot in slots)

    def put(self, number: int | None, prompt: Prompt) -> int | None:
        """Note that a prompt runs in a slot; return its number. `free` must follow.

        Numbers beyond the last slot begin anew, as they do in llama-server. None: it chooses.
        """
        slot = self._at(number)
        self._clock += 1
        slot.used = self._clock
        slot.num_running += 1
        slot.expected = slot.last.shared(prompt)
        slot.last = self._prompts[prompt.request] = prompt
        if len(self._prompts) > _MAX_PROMPTS:
            self._prompts.popitem(last=False)
        return None if number is None else slot.number

    def learn(self, number: int, cached: int) -> None:
        """Compare what a slot should have held of its last prompt with what it held, in tokens."""
        expected = self._slots[number].expected
        if expected >= _WORTH:
            self._misses = 0 if 2 * cached >= expected else self._misses + 1

    def count(self, request: str, prompt_tokens: int) -> None:
        """Take the engine's count of a prompt, which corrects the estimates."""
        known = self._prompts.get(request)
        if known is None:
            return
        counted = self._prompts[request] = known.counted(prompt_tokens)
        for slot in (*self._slots, self._elsewhere):
            if slot.last.request == request:
                slot.last = counted

    def free(self, number: int | None) -> None:
        """Note that a request that was put there has ended."""
        slot = self._at(number)
        slot.num_running = max(0, slot.num_running - 1)

    def forget(self, number: int | None, request: str) -> None:
        """Note that nobody knows whether a request ever came to its slot."""
        if self._at(number).last.request == request:
            self._at(number).last = NO_PROMPT

    def clear(self) -> None:
        """Forget what the slots hold: the engine restarted."""
        for slot in (*self._slots, self._elsewhere):
            slot.last = NO_PROMPT
        self._prompts.clear()
        self._misses = 0

    @staticmethod
    def _recurrence(age: int, count: int) -> float:
        """Return how likely a slot's content is asked for again; 0 is the one not used longest."""
        return _RECURS_OLDEST + (_RECURS_NEWEST - _RECURS_OLDEST) * age / max(1, count - 1)

    def _are_emptied(self, holdings: SlotHoldings | None) -> bool:
        """Return whether the server empties idle slots into its RAM cache."""
        if holdings is None:
            return self._misses >= _MAX_MISSES
        return holdings.has_copies() and any(
            slot.is_told_of(holdings) and slot.last.keys and not holdings.tokens(slot.number)
            for slot in self._slots
        )

    def _at(self, number: int | None) -> _Slot:
        return self._elsewhere if number is None else self._slots[number % len(self._slots)]

    def _is_settled(self, holdings: SlotHoldings | None) -> bool:
        """Return whether the engine told of all prompts of which it chose the slot."""
        return holdings is None or self._elsewhere.is_told_of(holdings)

    def _newest(self, prompt: Prompt) -> int:
        """Return what the last of these prompts, wherever it ran, has in common with a prompt."""
        newest = self._elsewhere
        return 0 if newest.num_running else newest.last.common(prompt)

    def _idle(self) -> list[_Slot]:
        return [slot for slot in self._slots if not slot.num_running]

    def _all_shared(self, prompt: Prompt, holdings: SlotHoldings | None) -> dict[int, int]:
        return {slot.number: self._share(slot, prompt, holdings).tokens for slot in self._slots}

    def _share(self, slot: _Slot, prompt: Prompt, holdings: SlotHoldings | None) -> Share:
        """Return what a slot holds of a prompt."""
        if holdings is None or not slot.is_told_of(holdings):
            common = slot.last.common(prompt)
            return Share(common, slot.last.up_to(common))
        return self._most(prompt, holdings.requests(slot.number))

    def _most(self, prompt: Prompt, held: Iterable[tuple[str, int]]) -> Share:
        """Return what is there of a prompt, where so many tokens of these requests are held."""
        best = Share()
        for name, tokens in held:
            known = self._prompts.get(name)
            if known is not None:
                common = known.common(prompt)
                whole = min(common, bisect_right(known.ends, tokens))
                best = max(best, Share(whole, min(known.up_to(common), tokens)))
        return best

    def _found(
        self, slot: _Slot, prompt: Prompt, holdings: SlotHoldings | None, is_asked_for: bool
    ) -> int:
        """Return the leading blocks of a prompt in a slot once llama-server loaded what it would.

        It takes a copy that keeps more of itself, and holds more of the prompt, than what is there.
        """
        best = self._share(slot, prompt, holdings)
        places = (*self._slots, self._elsewhere)
        if holdings is None or not all(place.is_told_of(holdings) for place in places):
            return best.blocks  # any request may make copies, use one, or drive one out
        held = self._tokens(slot, holdings)
        kept = best.tokens / held if held else -1.0
        if kept >= KEEPS_SLOT or (is_asked_for and not held):
            return best.blocks
        copies = list(islice(holdings.copies(slot.number), _MAX_COPIES + 1))
        for tokens, requests in copies if len(copies) <= _MAX_COPIES else ():
            share = self._most(prompt, requests)
            if share.tokens >= RESTORED * tokens and share.tokens > max(kept * tokens, best.tokens):
                best, kept = share, share.tokens / tokens
        return best.blocks

    def _tokens(self, slot: _Slot, holdings: SlotHoldings | None) -> int:
        if holdings is None or not slot.is_told_of(holdings):
            return slot.last.tokens
        return holdings.tokens(slot.number)

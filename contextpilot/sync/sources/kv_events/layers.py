"""The groups of layers that a cache is divided into, and at which lengths all can be reused.

A group is a number in the events. It is learnt from what it stores:

| its layers                      | a length can be reused when cached are                      |
|---------------------------------|-------------------------------------------------------------|
| full attention, MLA             | all blocks before it                                        |
| sliding window                  | the window before it, or all blocks before it               |
| Mamba, linear attention         | the state that ends there                                   |
| chunked local attention         | all blocks before it: events do not tell how long chunks are |

Only groups of the first kind store every block, so they alone say where a hash stands. Where no
kind is told, all layers are taken for full attention, until what is stored shows that they are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from contextpilot.named import Points
from contextpilot.sync.sources.kv_events.wire import FULL, MAX_GROUPS, SEVERAL, Stored

_MAX_RANGES = 256
_ALL = (*FULL, "chunked_local_attention")
_WINDOW = ("sliding_window", "sliding_window_mla")
_STATE = "mamba"


class _Group(NamedTuple):
    kind: str | None
    window: int | None
    size: int


class Layers:
    """What is known of one engine's groups. For use on one thread.

    Attributes:
        drafts: whether some layers may draft (EAGLE, MTP).
    """

    def __init__(self, drafts: bool = False) -> None:
        self._groups: dict[int, _Group] = {}
        self._sizes: set[int] = set()
        self._all = self._states = 0
        self._windows: dict[int, int] = {}  # blocks of a window → bits of its groups
        self._refused = ""
        self.drafts = drafts

    @property
    def refused(self) -> str:
        """Why it cannot be said what of the cache can be reused; "" where it can."""
        if self.drafts and (self._states or self._windows):
            return "windows or states where layers may draft (EAGLE, MTP)"
        return self._refused

    @property
    def are_named(self) -> bool:
        """Whether it was told of what kind all of them are."""
        return bool(self._groups) and all(group.kind for group in self._groups.values())

    @property
    def is_hybrid(self) -> bool:
        """Whether they are of several kinds."""
        return len(self._groups) > 1 or bool(self._states or self._windows)

    @property
    def is_sparse(self) -> bool:
        """Whether not every prefix of what is held can be reused."""
        return self.drafts or self.is_hybrid

    def learn(self, stored: Stored) -> bool:
        """Learn of a group from what it stores; return whether anything is new."""
        group = _Group(stored.kind, stored.window, stored.size)
        known = self._groups.get(stored.group)
        if known == group or (known is not None and known.kind == SEVERAL):
            return False
        self._groups[stored.group] = group
        self._sizes.add(stored.size)
        self._all = self._states = 0
        self._windows.clear()
        for number, each in self._groups.items():
            self._add(1 << number, each)
        self._refused = self._refusal()
        return True

    def points(self, held: Sequence[int], num_ranks: int) -> Points:
        """Return at which lengths a path can be reused on some rank.

        Args:
            held: of each block, from the first on, the bits of the ranks and groups that hold it.
        """
        if not self._groups:
            return ()
        numbers = self._numbers(held, 0)
        if num_ranks > 1:
            ranks = (self._numbers(held, rank * MAX_GROUPS) for rank in range(num_ranks))
            numbers = iter(sorted({number for each in ranks for number in each}))
        return _ranges(numbers, next(iter(self._sizes)))

    def _add(self, bit: int, group: _Group) -> None:
        if group.kind in _ALL:
            self._all |= bit
        elif group.kind == _STATE:
            self._states |= bit
        elif group.kind in _WINDOW and group.window is not None:
            blocks = -(-(group.window - 1) // group.size)
            self._windows[blocks] = self._windows.get(blocks, 0) | bit

    def _refusal(self) -> str:
        groups = self._groups.values()
        for group in groups:
            if group.kind == SEVERAL:
                return "layers of several kinds, which its events do not distinguish"
            if group.kind is None and self._groups.keys() != {0}:
                return "groups of layers that are not described"
            if group.kind not in (*_ALL, *_WINDOW, _STATE):
                return f"layers of kind {group.kind}"
            if group.kind in _WINDOW and group.window is None:
                return "a window of unknown length"
        if len(self._sizes) > 1:
            return "blocks of different sizes"
        is_placed = any(group.kind in FULL for group in groups)
        return "" if is_placed else "no layers that keep the whole prompt"

    def _numbers(self, held: Sequence[int], shift: int) -> Iterator[int]:
        """Yield after how many blocks a rank can reuse a path."""
        needed, states = self._all << shift, self._states << shift
        windows = [(bits << shift, blocks) for blocks, bits in self._windows.items()]
        runs = [0] * len(windows)
        for number, bits in enumerate(held, 1):
            if bits & needed != needed:
                return
            is_point = bits & states == states
            for at, (wanted, blocks) in enumerate(windows):
                runs[at] = runs[at] + 1 if bits & wanted == wanted else 0
                is_point = is_point and runs[at] >= min(blocks, number)
            if is_point:
                yield number


def _ranges(numbers: Iterable[int], size: int) -> Points:
    """Return numbers of blocks as ranges of tokens: the first ones, and the last."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    kept = found if len(found) <= _MAX_RANGES else [*found[: _MAX_RANGES - 1], found[-1]]
    return tuple((first * size, last * size) for first, last in kept)

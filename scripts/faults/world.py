"""What every row of the matrix finds: an index, the engine that fails, and one that stands in."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from daily.engine import BLOCK_TOKENS

from faults.load import Load, through
from faults.machines import Index, Real, Scripted, ask, wait_for

SETTLE_S = 60.0


class Outcome(NamedTuple):
    """What came of a row.

    Attributes:
        injected: how often the fault was injected.
        survived: how often what is expected held.
        answered, lost: requests meanwhile.
        note: figures beside.
    """

    injected: int
    survived: int
    answered: int
    lost: int
    note: str = ""

    @property
    def is_good(self) -> bool:
        """Whether all was survived, and nothing lost."""
        return self.survived == self.injected > 0 and not self.lost


@dataclass(frozen=True)
class Row:
    """One fault.

    Attributes:
        name: what happens.
        expected: what the users of a deployment can count on.
        run: injects it in a world.
        is_of_engine: whether it means something else with another engine.
    """

    name: str
    expected: str
    run: Callable[[World], Outcome]
    is_of_engine: bool = False


class World:
    """Makes what a row needs.

    Args:
        engine: "scripted", or a real engine's name.
        times: how often each fault is injected.
    """

    def __init__(self, engine: str, times: int) -> None:
        self.engine = engine
        self.times = times

    def new_engine(self, index_url: str = "") -> Any:
        """Return an engine of the kind that fails, not started."""
        return Scripted(index_url) if self.engine == "scripted" else Real(self.engine, index_url)

    @contextlib.contextmanager
    def pair(
        self, limits: dict[str, int] | None = None, **options: Any
    ) -> Iterator[tuple[Index, Any, Scripted]]:
        """Run an index before an engine that may fail, and one that stands in.

        Args:
            limits, options: as of `Index`.
        """
        engine, other = self.new_engine(), Scripted()
        index = Index((engine.url, other.url), limits, **options)
        engine.index_url = other.index_url = index.url
        with running(index, engine, other):
            wait_for(lambda: all(one["up"] for one in index.engine_states().values()))
            yield index, engine, other

    @contextlib.contextmanager
    def single(self, engine_sees: str = "", **options: Any) -> Iterator[tuple[Index, Any]]:
        """Run an index before one engine, which reports to `engine_sees`, else to the index."""
        engine = self.new_engine()
        index = Index((engine.url,), **options)
        engine.index_url = engine_sees or index.url
        with running(index, engine):
            wait_for(lambda: all(one["up"] for one in index.engine_states().values()))
            yield index, engine


@contextlib.contextmanager
def running(*machines: Any) -> Iterator[None]:
    """Start machines in this order, and end them."""
    try:
        for one in machines:
            one.start()
        yield
    finally:
        for one in machines:
            one.kill()


def is_exact(index: Index, engine: Any) -> bool:
    """Return whether the index follows an engine's cache exactly."""
    states = index.engine_states()
    return bool(states[engine.url.removeprefix("http://")]["sync"] == "exact")


def follows(index: Index, engine: Any, load: Load, *others: Scripted) -> bool:
    """Return whether belief becomes exact again, and true where the engines tell the truth."""
    send = through(index.url)

    def settled() -> bool:
        load.tell(send, random.Random())
        return is_exact(index, engine)

    if not wait_for(settled, SETTLE_S):
        load.notes.append("not exact again")
        return False
    if engine.name != "scripted":
        return True
    engines = [engine, *others]
    if wait_for(lambda: above_truth(index, engines) <= BLOCK_TOKENS, SETTLE_S):
        return True
    load.notes.append(f"{above_truth(index, engines)} tokens above the truth")
    return False


def above_truth(index: Index, engines: Sequence[Scripted]) -> int:
    """Return the most tokens that the index believes beyond what the engines hold.

    A request that none of several knows was sent to one that was killed since.
    """
    believed: dict[str, int] = ask(f"{index.url}/soak/belief")
    held: dict[str, int] = {} if len(engines) > 1 else dict.fromkeys(believed, 0)
    for engine in engines:
        held |= ask(f"{engine.url}/soak/truth", list(believed))
    return max((believed[name] - tokens for name, tokens in held.items()), default=0)


def in_background(work: Callable[[], Any]) -> threading.Thread:
    """Run something beside."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def outcome_of(load: Load, injected: int, survived: int) -> Outcome:
    """Return what came of a fault, beside what became of the requests meanwhile."""
    return Outcome(injected, survived, load.answered, load.num_lost, told(load))


def told(load: Load) -> str:
    """Return what was lost, and what else did not go as it should."""
    lost = [f"{count} × {what}" for what, count in load.lost.most_common(3)]
    return ", ".join(lost + load.notes)

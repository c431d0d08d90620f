"""Two applications that share one index: python examples/one_index.py

The first receives the engine's events and plans for others, as `contextpilot serve` does. The
second may run on another machine and names the first by `index_url`. Questions go to both in turn,
and from both to one engine. Prints how much of the prompts it had cached: in the order given,
planned by each for itself, and planned with one index. Then the engine evicts everything and
reports it, as a real engine's hooks would.
"""

from __future__ import annotations

from itertools import cycle

from measure import share_cached, stream
from pretend_engine import pretend_engine
from retrieval import QUESTIONS, retrieve

import contextpilot as cp
from contextpilot.client import Client


def ask(*pilots: cp.ContextPilot) -> tuple[float, list[str]]:
    """Ask every question, each of the pilots in turn; return what was cached, and the ids."""
    usages, ids = [], []
    with pretend_engine() as url:
        for question, pilot in zip(QUESTIONS, cycle(pilots), strict=False):
            messages = pilot.optimize(retrieve(question), question)
            usages.append(stream(f"{url}/chat/completions", "m", messages)[0])
            ids.append(messages.request_id)
    return share_cached(usages), ids


def main() -> None:
    """Ask in three ways, then let the engine forget."""
    print(f"in the order given     {ask(cp.ContextPilot(reorder=False))[0]:6.1%}")
    print(f"planned, an index each {ask(cp.ContextPilot(), cp.ContextPilot())[0]:6.1%}")
    with cp.ContextPilot(listen="127.0.0.1:0") as here:
        there = cp.ContextPilot(index_url=here.index_url)
        cached, ids = ask(here, there)
        print(f"planned, one index     {cached:6.1%}")
        for wanted in ("now", "after the engine let them go"):
            found = there.optimize(retrieve(QUESTIONS[0]), QUESTIONS[0])
            print(f"{wanted} the second finds {found.live_tokens} of {found.total_tokens} tokens")
            with Client(here.index_url) as engine:
                engine.evict([*ids, found.request_id])
        there.close()


if __name__ == "__main__":
    main()

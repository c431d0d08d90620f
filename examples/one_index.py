"""Two applications that share one index: python examples/one_index.py

The first receives the engines' events and plans for others, as `contextpilot serve` does; the
second may run on another machine, and names it by `index_url`. What one has sent, the other's
prompts hit. The engine here only says what a real one's hooks say: that it let a prompt go.
"""

from __future__ import annotations

from retrieval import QUESTIONS, retrieve

import contextpilot as cp
from contextpilot.client import Client


def main() -> None:
    """Ask one question here and one there, then let the engine forget."""
    with cp.ContextPilot(listen="127.0.0.1:0") as here:
        there = cp.ContextPilot(index_url=here.index_url)
        documents = retrieve(QUESTIONS[0])
        first = here.optimize(documents, QUESTIONS[0])
        second = there.optimize([*reversed(documents)], QUESTIONS[1])
        print(f"the second application finds {second.live_tokens} of {second.total_tokens} tokens")
        with Client(here.index_url) as engine:
            engine.evict([first.request_id, second.request_id])
        third = there.optimize(documents, QUESTIONS[2])
        print(f"after the engine let them go, {third.live_tokens} of {third.total_tokens} tokens")
        there.close()


if __name__ == "__main__":
    main()

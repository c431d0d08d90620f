"""Reads a written prompt back, independently of the code that writes it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from contextpilot.plan.price import displacement
from contextpilot.prompt.messages import Messages

COPY = re.compile(r"Same text as \[(\d+)\]\.")
HINT = re.compile(r'Given earlier in this conversation, beginning "(.*)"\.', re.DOTALL)
RANKING = re.compile(r"By number, from most to least important: ([\d,-]+)\.\n\n")


def positions_in(ranking: str) -> list[int]:
    """Return the positions that a ranking names: "4,1-3" gives 4, 1, 2, 3."""
    found: list[int] = []
    for entry in ranking.split(","):
        first, _, last = entry.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def check_prompt(
    messages: Messages, context: Sequence[str], query: str, history: Sequence[str] = ()
) -> None:
    """Check that a prompt holds each block once at least, in its order, with true hints."""
    n = len(context)
    assert sorted(messages.order) == list(range(n))
    assert list(messages.hinted) == sorted(set(messages.hinted))
    rest = messages[-1]["content"]
    standing: list[str] = []
    for position, rank in enumerate(messages.order, start=1):
        label = f"[{position}] "
        assert rest.startswith(label)
        rest = rest[len(label) :]
        if rank not in messages.hinted:
            text = context[rank]
            assert rest.startswith(text + "\n\n")
        else:
            text = rest[: rest.index("\n\n")]
            assert len(text) < len(context[rank])
            check_hint(text, rank, messages, context, history)
        rest = rest[len(text) + 2 :]
        standing.append(text)
    found = RANKING.search(rest)
    if found is not None:
        assert list(messages.order) != sorted(messages.order)
        ranked = [messages.order[position - 1] for position in positions_in(found[1])]
        assert ranked == list(range(n))
        rest = rest[found.end() :]
    else:
        assert displacement(messages.order) < 0.25, "moved far, and nothing tells it"
    assert rest == query


def check_hint(
    hint: str, rank: int, messages: Messages, context: Sequence[str], history: Sequence[str]
) -> None:
    copy = COPY.fullmatch(hint)
    if copy is None:
        assert HINT.fullmatch(hint)
        assert any(context[rank] in text for text in history)
    else:
        referent = messages.order[int(copy[1]) - 1]
        assert referent not in messages.hinted
        assert context[referent] == context[rank]
        assert referent < rank, "not the earliest copy was kept"

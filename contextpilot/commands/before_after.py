"""One request's messages before and after planning, shortened to the terminal's width."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from contextpilot.explain import Explanation
from contextpilot.pilot import ContextPilot
from contextpilot.prompt.messages import Messages, render_blocks
from contextpilot.tables import clip

_SYSTEM = "Answer the question from the documents."
_MARGIN = "    "
_CACHED = ", cached"
_NAME_WIDTH = 27


@dataclass(frozen=True)
class BeforeAfter:
    """One request of a run: its messages as given and as planned, and why it hit."""

    position: int
    query: str
    blocks: Sequence[str]
    before: Messages
    after: Messages
    explanation: Explanation

    def as_dict(self) -> dict[str, Any]:
        """Return everything as a dictionary, ready for JSON."""
        return {
            "position": self.position,
            "query": self.query,
            "before": list(self.before),
            "after": list(self.after),
            "order": list(self.after.order),
            "explanation": self.explanation.as_dict() | {"request_id": None},
        }


def half_cached_request(contexts: Sequence[Sequence[str]], queries: Sequence[str]) -> BeforeAfter:
    """Plan all requests in order of arrival; return the one whose prompt is nearest half cached."""
    pilot = ContextPilot()
    planned = [
        pilot.optimize(context, query, system_instruction=_SYSTEM)
        for context, query in zip(contexts, queries, strict=True)
    ]
    explanations = [pilot.explain(messages) for messages in planned]
    chosen = min(range(len(planned)), key=lambda i: _distance_from_half(explanations[i]))
    unplanned = ContextPilot(reorder=False)
    return BeforeAfter(
        chosen,
        queries[chosen],
        contexts[chosen],
        unplanned.optimize(contexts[chosen], queries[chosen], system_instruction=_SYSTEM),
        planned[chosen],
        explanations[chosen],
    )


def _distance_from_half(explained: Explanation) -> float:
    return abs(explained.matched_tokens / max(1, explained.total_tokens) - 0.5)


def render_request(shown: BeforeAfter, width: int) -> str:
    """Return the request as text, no line longer than `width`."""
    explained, title = shown.explanation, f"Request {shown.position + 1}"
    notes = [
        f"  was [{rank + 1}]" + (_CACHED if position < explained.matched_blocks else "")
        for position, rank in enumerate(shown.after.order)
    ]
    why = [
        ("blocks found in the cache", f"{explained.matched_blocks} of {len(notes)}"),
        (
            "tokens found in the cache",
            f"{explained.matched_tokens:,} of {explained.total_tokens:,}",
        ),
        ("tokens seen before", f"{explained.reachable_tokens:,}, in any order"),
        ("first block not found", explained.first_miss or "none"),
        ("reason", explained.reason),
    ]
    return "\n\n".join(
        [
            f"{title} as given\n{_render(shown.before, shown.blocks, [], width)}",
            f"{title} as planned\n{_render(shown.after, shown.blocks, notes, width)}",
            "Why (pilot.explain)\n"
            + "\n".join(
                line
                for name, value in why
                for line in _wrap(value, width, f"  {name:<{_NAME_WIDTH}}", " " * (_NAME_WIDTH + 2))
            ),
        ]
    )


def _render(messages: Messages, blocks: Sequence[str], notes: Sequence[str], width: int) -> str:
    lines = []
    for message in messages:
        content = message["content"]
        lines.append(f"  {message['role']}:")
        if message["role"] == "user":
            texts = [blocks[rank] for rank in messages.order]
            lines += _block_lines(texts, notes or [""] * len(texts), width)
            content = content.removeprefix(render_blocks(texts))
        for paragraph in content.split("\n\n"):
            lines += _wrap(paragraph, width, _MARGIN, _MARGIN)
    return "\n".join(lines)


def _block_lines(texts: Sequence[str], notes: Sequence[str], width: int) -> list[str]:
    column = max((len(note) for note in notes), default=0)
    room = width - len(_MARGIN) - column
    return [
        f"{_MARGIN}{clip(f'[{number}] {text}', room).ljust(room)}{note}".rstrip()
        for number, (text, note) in enumerate(zip(texts, notes, strict=True), start=1)
    ]


def _wrap(text: str, width: int, first: str, others: str) -> list[str]:
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=others)

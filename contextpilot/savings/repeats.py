"""What a conversation holds twice, found by `deduplicate_messages`: counts, no text is kept.

An agent's prompt is its whole session: what stands in it twice is sent twice with every later call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from contextpilot.dedup.messages import deduplicate_messages
from contextpilot.dedup.shapes import find_slots
from contextpilot.prompt.apis.splice import dump
from contextpilot.savings.stores import Session

_MOST = 0.9
"""Of a result's characters: from here on it is a repeated reading."""


@dataclass(frozen=True)
class Repeats:
    """Of one session.

    Attributes:
        results, result_chars: what tools returned.
        readings, reading_chars: results of which nine tenths and more stand in earlier ones.
        runs: runs of lines that stand earlier, those of such readings among them.
        run_chars: characters that references to them would spare, once.
        sent_chars: of the messages of all prompts together, as JSON.
        spared_chars: by call, the characters of its prompt that references would spare.
    """

    results: int
    result_chars: int
    readings: int
    reading_chars: int
    runs: int
    run_chars: int
    sent_chars: int
    spared_chars: Sequence[int]


def find_repeats(session: Session) -> Repeats:
    """Return what a session holds twice; messages of no known shape are left out of it."""
    messages = [message if _is_known(message) else {} for message in session.messages]
    results = {slot.path: len(slot.text) for slot in find_slots(messages) if slot.can_change}
    changed, report = deduplicate_messages(messages)
    repeated: Counter[Any] = Counter()
    for item in report.replacements:
        repeated[item.path] += item.chars
    readings = [size for path, size in results.items() if repeated[path] >= max(1, _MOST * size)]
    before = list(accumulate(map(_chars, messages), initial=0))
    after = list(accumulate(map(_chars, changed), initial=0))
    ends = [min(call.at, len(messages)) for call in session.calls]
    return Repeats(
        results=len(results),
        result_chars=sum(results.values()),
        readings=len(readings),
        reading_chars=sum(readings),
        runs=len(report.replacements),
        run_chars=report.chars_saved,
        sent_chars=sum(before[end] for end in ends),
        spared_chars=[before[end] - after[end] for end in ends],
    )


def _is_known(message: Any) -> bool:
    try:
        find_slots([message])
    except (TypeError, ValueError):
        return False
    return True


def _chars(message: Any) -> int:
    return len(dump(message))

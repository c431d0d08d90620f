"""Two arms' scores of the same requests: who gained, who lost, and whether chance explains it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from contextpilot.bench.prompts import Prompt
from contextpilot.bench.statistics import Interval, mean_of
from contextpilot.plan.price import displacement
from contextpilot.prompt.messages import Messages

CLASSES = ("as given", "moved little", "moved far")
_FAR = 0.5
"""Displacement from which on blocks moved far: 1 is the most relevant block put last."""


class McNemar(NamedTuple):
    """The exact test of paired yes-or-no scores: only requests whose score changed tell.

    Attributes:
        gained, lost: requests that one arm got right and the baseline did not, and the reverse.
        p: how often chance alone would make both differ so much, or more (two-sided).
    """

    gained: int
    lost: int
    p: float

    @classmethod
    def of(cls, changes: Sequence[float]) -> McNemar:
        """Test the differences of scores that are each 0 or 1."""
        from scipy.stats import binomtest  # takes long to import

        gained = sum(change > 0 for change in changes)
        lost = sum(change < 0 for change in changes)
        count = gained + lost
        return cls(gained, lost, float(binomtest(gained, count).pvalue) if count else 1.0)


def class_of(prompt: Prompt) -> str | None:
    """Return how far the blocks of a prompt moved; None where their order is decided elsewhere."""
    if not isinstance(prompt.messages, Messages):
        return None
    moved = displacement(prompt.messages.order)
    if not moved:
        return CLASSES[0]
    return CLASSES[1] if moved < _FAR else CLASSES[2]


def by_class(
    changes: Mapping[int, float], prompts: Sequence[Prompt], seed: int
) -> dict[str, tuple[int, Interval]]:
    """Return for each class of displacement its requests, and their mean change.

    Args:
        changes: by position of the request.
        prompts: what the arm sent.
    """
    classes: dict[str, list[float]] = {name: [] for name in CLASSES}
    for prompt in prompts:
        name = class_of(prompt)
        if name is not None and prompt.position in changes:
            classes[name].append(changes[prompt.position])
    return {name: (len(own), mean_of(own, seed)) for name, own in classes.items() if own}


def as_dict(classes: Mapping[str, tuple[int, Interval]]) -> dict[str, Any]:
    """Return the classes as a dictionary, ready for JSON."""
    return {
        name: {"requests": count, "change": change.as_dict()}
        for name, (count, change) in classes.items()
    }

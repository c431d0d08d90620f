"""A planned request's path in the index of its engine."""

from __future__ import annotations

from contextpilot.block import BlockKey
from contextpilot.planning import Job, Planned


def path_of(job: Job, planned: Planned) -> tuple[BlockKey, ...]:
    """Return a planned request's path in the index."""
    blocks = job.contexts[planned.position]
    return (*job.head.keys, *(blocks[rank].key for rank in planned.plan.order))


def ends_of(job: Job, planned: Planned) -> tuple[int, ...]:
    """Return for each key of the path the prompt tokens up to its end."""
    blocks, end = job.contexts[planned.position], job.head.tokens
    ends = [end] * len(job.head.keys)
    for rank in planned.plan.order:
        end += blocks[rank].weight
        ends.append(end)
    return tuple(ends)

"""Plan, explain and learn in one step. `remote` does the same on a shared index server."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from contextpilot.block import Block
from contextpilot.explain import Explanation, explain_plan
from contextpilot.namespace import Namespace, Namespaces
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import Head, Plan
from contextpilot.progress import ProgressBar
from contextpilot.prompt.messages import new_request_id
from contextpilot.prompt.turn import Turn

if TYPE_CHECKING:
    from contextpilot.plan.overlaps.base import Arithmetic

_COURTESY_S = 0.005
_INSTANT_S = 0.0001


class Job(NamedTuple):
    """Contexts of one namespace to plan together; `tails[i]` are the tokens after the blocks."""

    namespace: str
    contexts: Sequence[Sequence[Block]]
    bounds: Bounds
    head: Head
    tails: Sequence[int]


def turns_job(namespace: str, turns: Sequence[Turn], queries: Sequence[str], head: Head) -> Job:
    """Return the job that plans these turns, all of the same options."""
    bounds = turns[0].options.bounds if turns else Bounds()
    if bounds.anchor == "auto" and any(turn.has_frames for turn in turns):
        bounds = replace(bounds, anchor="none")  # the first in time is not the most relevant
    return Job(
        namespace,
        [turn.fresh for turn in turns],
        bounds,
        head,
        [turn.tail_tokens(query) for turn, query in zip(turns, queries, strict=True)],
    )


class Planned(NamedTuple):
    """One planned request of a job, in execution order; `position` counts the job's contexts."""

    position: int
    plan: Plan
    explanation: Explanation

    @property
    def request_id(self) -> str:
        """The id under which index and engine know the request."""
        return self.explanation.request_id


class Courtesy:
    """Gives other threads a chance at a lock: whoever releases one mostly takes it again first."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    def pause(self) -> None:
        """Wait for an instant if the last was some milliseconds ago; call it without the lock."""
        if time.perf_counter() - self._since > _COURTESY_S:
            time.sleep(_INSTANT_S)
            self._since = time.perf_counter()


class Planning(Protocol):
    """Whatever plans jobs."""

    def run(self, job: Job) -> Iterator[Planned]:
        """Yield the planned requests in execution order, each learnt already."""


class LocalPlanning:
    """Plans against the namespaces of this process. Thread-safe.

    Args:
        progress: show a bar in a terminal while a large batch is planned.
        use_gpu: compute the overlaps of a batch on a GPU, where there is one and that pays.
    """

    def __init__(
        self, namespaces: Namespaces, progress: bool = False, use_gpu: bool = False
    ) -> None:
        self._namespaces = namespaces
        self._progress = progress
        self._use_gpu = use_gpu
        self._arithmetic: Arithmetic | None = None

    def run(self, job: Job) -> Iterator[Planned]:
        """Yield the planned requests; between those of a batch, others may use the namespace."""
        contexts, bounds, head = job.contexts, job.bounds, job.head
        if not contexts:
            return
        space = self._namespaces.get(job.namespace)
        if len(contexts) == 1:
            with space.lock:
                plan = space.planner.plan(contexts[0], bounds, head)
                planned = self._learn(space, job, 0, plan)
            self._namespaces.settle(space)
            yield planned
            return
        from contextpilot.plan.batch import BatchPlanner  # SciPy takes a while to import

        if self._arithmetic is None:
            self._arithmetic = arithmetic_of(self._use_gpu)
        planner = BatchPlanner(space.planner, space.lock, self._arithmetic)
        with ProgressBar("planning", enabled=self._progress) as progress:
            groups = planner.prepare(contexts, bounds, head, progress)
        walk, courtesy = planner.walk(contexts, groups, bounds, head), Courtesy()
        while True:
            courtesy.pause()
            with space.lock:
                step = next(walk, None)
                if step is None:
                    return
                planned = self._learn(space, job, *step)
            self._namespaces.settle(space)
            yield planned

    def _learn(self, space: Namespace, job: Job, position: int, plan: Plan) -> Planned:
        planner, blocks = space.planner, job.contexts[position]
        request_id = new_request_id()
        explained = explain_plan(request_id, blocks, plan, job.head, planner.index, planner.window)
        planned = counted(space, job, Planned(position, plan, explained))
        planner.learn(blocks, plan, request_id, job.head, job.tails[position])
        self._namespaces.own(request_id, space)
        return planned


def arithmetic_of(use_gpu: bool) -> Arithmetic:
    """Return what computes the overlaps of batches: a GPU if asked for and there, else the CPU."""
    if use_gpu:
        from contextpilot.plan.overlaps.gpu import gpu_or_cpu

        return gpu_or_cpu()
    from contextpilot.plan.overlaps.cpu import CPU

    return CPU


def counted(space: Namespace, job: Job, planned: Planned) -> Planned:
    """Count a planned request, told in tokens as the engine counts them. Hold the space's lock."""
    told, tokens = planned.explanation, space.tokens
    estimate = job.head.tokens + told.total_tokens + job.tails[planned.position]
    tokens.expect(planned.request_id, estimate)
    if tokens.ratio != 1.0:
        told = replace(
            told,
            matched_tokens=tokens.scale(told.matched_tokens),
            total_tokens=tokens.scale(told.total_tokens),
            reachable_tokens=tokens.scale(told.reachable_tokens),
        )
        planned = planned._replace(explanation=told)
    space.counts.add(told.total_tokens, told.matched_tokens)
    return planned

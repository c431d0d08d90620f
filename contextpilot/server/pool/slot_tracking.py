"""Follows one request through the slots of a llama-server, from its place to its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from contextpilot.engines.base import SlotWish
from contextpilot.engines.usage import Usage
from contextpilot.explain import first_miss
from contextpilot.planning import Job, Planned
from contextpilot.server.pool.member import Engine
from contextpilot.server.pool.pool_receiver import PoolReceiver
from contextpilot.server.pool.prompt_path import ends_of, path_of
from contextpilot.server.pool.slot_choice import Prompt
from contextpilot.sync.sources.base import PromptCounts, SlotHoldings


class SlotTracking:
    """One planned request at an engine with slots.

    Attributes:
        slot: the slot that it runs in; None when the server chooses.
        planned: the request, with as much of it live as is found where it runs.
    """

    def __init__(
        self, engine: Engine, receiver: PoolReceiver, job: Job, planned: Planned, wish: SlotWish
    ) -> None:
        self._engine = engine
        self._receiver = receiver
        self._request = planned.request_id
        self._num_answers = wish.num_answers
        self._reporter = receiver.slot_reporter(engine)
        holdings = receiver.slots_of(self._reporter) if self._reporter else None
        self._since = holdings.position if holdings is not None else 0
        self._is_told = self._reporter is None
        self._has_arrived = False
        self._place(job, planned, wish, holdings)

    def _place(
        self, job: Job, planned: Planned, wish: SlotWish, holdings: SlotHoldings | None
    ) -> None:
        slots, space = self._engine.slots, self._engine.namespaces.find(job.namespace)
        assert slots is not None
        scale = space.tokens.scale if space is not None else int
        ends = [scale(end) for end in ends_of(job, planned)]
        total = scale(job.tails[planned.position]) + (ends[-1] if ends else 0)
        prompt = Prompt(self._request, path_of(job, planned), ends, total)
        self.slot = wish.given
        if wish.given is None and wish.may_choose:
            self.slot = slots.choose(prompt, holdings)
        self.planned = planned
        if self.slot is not None or holdings is not None:
            found = slots.found(prompt, self.slot, holdings) - len(job.head.keys)
            self.planned = _limited(job, planned, max(0, found), scale)
        self.slot = slots.put(self.slot, prompt)

    def arrived(self) -> None:
        """Note that the engine read the prompt."""
        self._has_arrived = True

    def answered(self, usage: Usage, generated: int | None) -> None:
        """Tell what the whole answer said of the prompt."""
        slots = self._engine.slots
        if slots and usage.prompt_tokens:
            slots.count(self._request, usage.prompt_tokens)
        if self.slot is not None and slots and usage.cached_tokens is not None:
            slots.learn(self.slot, usage.cached_tokens)
        if self._is_told or usage.prompt_tokens is None or usage.cached_tokens is None:
            return
        self._is_told = True
        assert self._reporter is not None
        answer = PromptCounts(
            self._request,
            self.slot,
            usage.cached_tokens,
            usage.prompt_tokens,
            generated if self._num_answers == 1 else None,
            self._since,
        )
        self._receiver.answered(self._reporter, answer)

    def end(self) -> None:
        """Give the slot back; of a request without a whole answer nothing is believed."""
        if not self._is_told and self._reporter is not None:
            self._receiver.broken_off(self._reporter, self._request)
        if self._engine.slots is not None:
            self._engine.slots.free(self.slot)
            if not self._has_arrived:
                self._engine.slots.forget(self.slot, self._request)


def _limited(job: Job, planned: Planned, blocks: int, scale: Callable[[int], int]) -> Planned:
    """Return a planned request of which no more than so many blocks are live."""
    plan, told = planned.plan, planned.explanation
    if blocks >= plan.num_live:
        return planned
    context, plan = job.contexts[planned.position], plan._replace(num_live=blocks)
    tokens = scale(sum(context[rank].weight for rank in plan.order[:blocks]))
    told = replace(
        told,
        matched_blocks=blocks,
        matched_tokens=min(told.matched_tokens, tokens),
        first_miss=first_miss(context, plan),
        reason="other slot: its live part is in another slot, or is lost with the slot taken",
    )
    return Planned(planned.position, plan, told)

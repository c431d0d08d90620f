"""Plans prompts for the index API and the proxy: composition of the library's rooms."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from statistics import median
from typing import Any, NamedTuple

from contextpilot.block import Block, BlockReader
from contextpilot.dedup.conversation import Deduplication
from contextpilot.held import IndexStats
from contextpilot.images.image import Image
from contextpilot.images.json_images import with_images
from contextpilot.jobs import AnsweredJobs, encode_plans
from contextpilot.namespace import Counts, Namespace, Namespaces
from contextpilot.options import Options
from contextpilot.plan.online import NO_HEAD
from contextpilot.planning import Job, LocalPlanning, Planned, turns_job
from contextpilot.prompt.annotate import check_template
from contextpilot.prompt.messages import Message, Messages
from contextpilot.prompt.turn import Turn, head_of
from contextpilot.server.conversations import TenantConversations
from contextpilot.server.errors import input_errors
from contextpilot.server.event_lane import SyncLane
from contextpilot.server.observe.records import Record, Records, without_text
from contextpilot.server.offload import LARGE_BLOCKS, are_many, offload, offload_planning
from contextpilot.server.pool.engine_pool import EnginePool
from contextpilot.server.pool.lease import Lease
from contextpilot.server.settings import Settings

_MANY_NAMESPACES = 200
"""So many take a millisecond to sum up."""
_SUMS = (*(item.name for item in fields(Counts)), *IndexStats._fields)


class Written(NamedTuple):
    """One request's messages, and the plan that they follow."""

    messages: Messages
    planned: Planned
    turn: Turn


class Service:
    """Reads blocks, plans them at a pool, writes messages, and remembers what it did."""

    def __init__(self, settings: Settings, pool: EnginePool) -> None:
        self.settings = settings
        self.pool = pool
        self.lane = SyncLane(pool.receiver)
        self.reader = BlockReader(keeps_texts=False)
        self.records = Records()
        self.jobs = AnsweredJobs()
        self.defaults = default_options(settings)
        self._conversations = TenantConversations(settings.max_blocks, settings.max_namespaces)

    # -- planning --------------------------------------------------------------------------------

    async def reorder(
        self, contexts: Sequence[Sequence[Any]], namespace: str, options: dict[str, Any]
    ) -> tuple[list[list[Block]], list[Planned], str | None]:
        """Plan a batch of contexts; return them as blocks, the plans, and the engine chosen."""
        many = are_many(contexts)
        with input_errors():
            batch = await offload(many, self._read_batch, contexts, bare_ids=True)
            bounds = self.defaults.override(**options).bounds
        job = Job(namespace, batch, bounds, NO_HEAD, [0] * len(batch))
        if not batch:
            return batch, [], None
        async with self.pool.lease(namespace, batch[0], wait=False) as lease:
            planned = await lease.run(job)
        engine = await offload(many, self.remember, "reorder", batch, planned, lease)
        return batch, planned, engine

    async def reorder_stateless(
        self, contexts: Sequence[Sequence[Any]], options: dict[str, Any]
    ) -> tuple[list[list[Block]], list[Planned], str | None]:
        """Plan a batch for itself: nothing known is used, nothing is learnt."""
        many = are_many(contexts)
        with input_errors():
            batch = await offload(many, self._read_batch, contexts, bare_ids=True)
            bounds = self.defaults.override(**options).bounds
        job = Job("", batch, bounds, NO_HEAD, [0] * len(batch))
        planning = LocalPlanning(Namespaces(self.settings.max_blocks, len(batch) or 1, 1))
        if not batch:
            return batch, [], None

        def plan() -> list[Planned]:
            return list(planning.run(job))

        return batch, await offload_planning(plan) if many else plan(), None

    async def plan_once(self, job: Job, job_id: str | None) -> dict[str, Any]:
        """Plan a job of another process, and return its plans as JSON content.

        A job that arrives again, because its answer was lost, gets the same plans.
        """
        if job_id is None:
            return await self._plan_encoded(job)
        answer, is_first = self.jobs.claim(job_id, job)
        if not is_first:
            return await asyncio.wrap_future(answer)
        try:
            content = await self._plan_encoded(job)
        except BaseException as error:
            self.jobs.fail(job_id, answer, error)
            raise
        answer.set_result(content)
        return content

    async def take_back(self, content: dict[str, Any], job_id: str | None) -> None:
        """Believe nothing of plans whose client went before it got them: it sends others."""
        if job_id is None or self.jobs.abandon(job_id):
            names = [told["request_id"] for *_, told in content["plans"]]
            await offload(len(names) >= LARGE_BLOCKS, self.pool.receiver.evict, names)

    async def _plan_encoded(self, job: Job) -> dict[str, Any]:
        many = are_many(job.contexts)
        leased = self.pool.lease(job.namespace, job.contexts[0], job.head, wait=False)
        async with leased as lease:
            planned = await lease.run(job)
        await offload(many, self.remember, "plan", job.contexts, planned, lease)
        return await offload(many, encode_plans, planned)

    async def write(
        self,
        contexts: Sequence[Sequence[Any]],
        queries: Sequence[str],
        before: list[Message],
        namespace: str,
        options: dict[str, Any],
        conversation: str | None = None,
        is_large: bool = False,
    ) -> list[Written]:
        """Plan a batch and write its messages, in execution order.

        Args:
            is_large: so much text is given that a thread should look through it.
        """
        many = is_large or are_many(contexts)
        with input_errors():
            setting = self.defaults.override(**options)
            turns = await offload(many, self._turns, contexts, before, setting)
        if not turns:
            return []
        job = turns_job(namespace, turns, queries, head_of(before))
        leased = self.pool.lease(namespace, turns[0].fresh, job.head, conversation, wait=False)
        async with leased as lease:
            planned = await lease.run(job)
        await offload(many, self.remember, "optimize", job.contexts, planned, lease)
        if conversation is not None:
            await self._conversations.record(namespace, conversation, turns[0].blocks, many)
        return await offload(many, _write, turns, planned, queries)

    def _turns(
        self, contexts: Sequence[Sequence[Any]], before: list[Message], setting: Options
    ) -> list[Turn]:
        turns = [Turn.split(one, before, setting) for one in self._read_batch(contexts)]
        values = (block.value for turn in turns for block in turn.blocks)
        for image in [value for value in values if type(value) is Image]:
            image.items(setting.image_api)  # raises where that API has other parts
        return turns

    def _read_batch(
        self, contexts: Sequence[Sequence[Any]], *, bare_ids: bool = False
    ) -> list[list[Block]]:
        """Return the blocks of contexts, images among them. Raises TypeError, ValueError."""
        given = [with_images(context, f"contexts[{i}]") for i, context in enumerate(contexts)]
        return self.reader.read_batch(given, "contexts", bare_ids=bare_ids)

    def remember(
        self,
        api: str,
        contexts: Sequence[Sequence[Block]],
        planned: Sequence[Planned],
        lease: Lease,
    ) -> str | None:
        """Remember planned requests; return the name of the engine that they go to."""
        engine = lease.engine.name if lease.engine is not None else None
        for one in planned:
            self.records.add(Record(api, without_text(one, contexts[one.position]), engine))
        return engine

    # -- conversations ---------------------------------------------------------------------------

    async def deduplicate(
        self,
        contexts: Sequence[Any],
        conversation: str,
        template: str,
        namespace: str,
        is_large: bool = False,
    ) -> Deduplication:
        """Compare a context with what its conversation was given, and record it.

        Images are new each time, as the objects that came: a hint quotes texts.

        Args:
            is_large: as of `write`.
        """
        is_large = is_large or are_many([contexts])
        came: dict[int, Any] = {}

        def read() -> Sequence[Block]:
            given = with_images(contexts, "contexts")
            came.update((id(made), one) for made, one in zip(given, contexts, strict=True))
            return self.reader.read(given, "contexts")

        with input_errors():
            check_template("hint_template", template, "first_line")
            found = await self._conversations.deduplicate(
                namespace, conversation, read, template, is_large
            )
        return found._replace(new_blocks=[came.get(id(one), one) for one in found.new_blocks])

    # -- what is known ---------------------------------------------------------------------------

    def has_many_namespaces(self) -> bool:
        """Return whether `stats` of all namespaces takes long."""
        return sum(map(len, self.pool.indexes())) > _MANY_NAMESPACES

    def stats(self, namespace: str | None) -> dict[str, Any]:
        """Return sums over the engines and the namespaces, or over one namespace."""
        indexes = self.pool.indexes()
        if namespace is None:
            spaces = [space for namespaces in indexes for _, space in namespaces.items()]
        else:
            spaces = list(filter(None, (namespaces.find(namespace) for namespaces in indexes)))
        sums: Counter[str] = Counter(dict.fromkeys(_SUMS, 0))
        for space in spaces:
            sums.update(vars(space.counts) | space.planner.index.stats()._asdict())
        return {"namespaces": len(spaces)} | dict(sums) | _weights(spaces)

    def health(self) -> dict[str, Any]:
        """Return whether requests can be served, and the state of each engine."""
        engines = self.pool.health()
        ready = not engines or any(engine.get("up") for engine in engines)
        status = "ok" if ready else "unavailable"
        return {"status": status, "engines": engines, "sync": self.pool.receiver.engines()}

    def reset(self, namespace: str | None) -> None:
        """Forget one namespace, or all."""
        for namespaces in self.pool.indexes():
            namespaces.reset(namespace)
        self._conversations.forget(namespace)
        if namespace is None:
            self.records.clear()


def _write(
    turns: Sequence[Turn], planned: Sequence[Planned], queries: Sequence[str]
) -> list[Written]:
    written = []
    for one in planned:
        turn = turns[one.position]
        messages = turn.write(one.plan, one.explanation, queries[one.position])
        written.append(Written(messages, one, turn))
    return written


def default_options(settings: Settings) -> Options:
    """Return the options that hold where a request names none."""
    return Options().override(
        reorder=settings.reorder,
        annotate=settings.annotate,
        deduplicate=settings.deduplicate,
        pin_first=settings.pin_first,
        max_shift=None if settings.max_shift < 0 else settings.max_shift,
        min_gain_tokens=settings.min_gain_tokens,
        displacement_cost=settings.displacement_cost,
        anchor=settings.anchor,
        anchor_blocks=settings.anchor_blocks,
    )


def _weights(spaces: Sequence[Namespace]) -> dict[str, Any]:
    """Return how many namespaces learnt what a token weighs, and the median of their ratios."""
    sources = Counter(space.tokens.source for space in spaces)
    learnt = [space.tokens.ratio for space in spaces if space.tokens.source == "learnt"]
    return {"weights": dict(sources), "weight_ratio": median(learnt) if learnt else None}

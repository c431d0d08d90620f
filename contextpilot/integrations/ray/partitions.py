"""A dataset of contexts to a dataset of prompts in execution order, in partitions."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ray

from contextpilot.block import BlockReader
from contextpilot.pilot import ContextPilot
from contextpilot.plan.parts import clusters, runs_of
from contextpilot.prompt.messages import Messages

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from contextpilot.arguments import BatchArguments

COLUMNS = ("place", "partition", "request_id", "key", "order", "tokens", "messages")
"""What `plan` adds to a row."""


def plan(
    dataset: Any,
    partitions: int,
    *,
    contexts: str = "contexts",
    query: str = "query",
    pilot: ContextPilot | None = None,
    max_requests: int = 100_000,
    slack: float = 0.1,
    **arguments: Unpack[BatchArguments],
) -> Any:
    """Plan a dataset as one batch; return its prompts, one block a partition, in execution order.

    Rows keep their columns, but for the contexts, which stand in the messages. They get `place` (of
    the row in `dataset`), `partition`, `request_id`, `key`, `order`, `tokens` (of the blocks) and
    `messages`. The rows come to the driver, so its memory must hold them.

    Args:
        dataset: a `ray.data.Dataset`.
        partitions: contiguous runs of the plan, about equally long: one for each engine or worker.
        contexts, query: the columns that hold a row's blocks and its question.
        pilot: what plans; default: a new one.
        max_requests: a larger batch is clustered first: a random sample of this size is planned,
            each other request goes behind the one with which it shares most, and runs of that are
            planned one by one.
        slack: how much longer or shorter a partition may be, to be cut where least is lost.
        arguments: of `ContextPilot.optimize_batch`.

    Raises:
        KeyError: a row lacks one of the two columns.
        TypeError, ValueError: as of `optimize_batch`, or a number is out of range.
    """
    if partitions < 1:
        raise ValueError(f"partitions must be at least 1, but is {partitions}")
    rows = dataset.take_all()
    found = [_columns(row, contexts, query) for row in rows]
    planner = pilot or ContextPilot()
    prompts, order = _planned(found, planner, max_requests, arguments)
    shared = [prompt.live_tokens for prompt in prompts]
    runs = runs_of(range(len(order)), min(partitions, max(1, len(order))), shared, slack)
    seen: Counter[str] = Counter()
    blocks = []
    for number, run in enumerate(runs):
        block = []
        for at in run:
            row = {name: value for name, value in rows[order[at]].items() if name != contexts}
            block.append(row | _told(prompts[at], order[at], number, seen))
        blocks.append(ray.data.from_items(block, override_num_blocks=1))
    return blocks[0].union(*blocks[1:]).materialize() if len(blocks) > 1 else blocks[0]


def _columns(row: dict[str, Any], contexts: str, query: str) -> tuple[list[Any], str]:
    for name in (contexts, query):
        if name not in row:
            raise KeyError(f"the dataset has no column {name!r}; it has {', '.join(row)}")
    return list(row[contexts]), row[query]


def _planned(
    rows: Sequence[tuple[list[Any], str]],
    pilot: ContextPilot,
    max_requests: int,
    arguments: BatchArguments,
) -> tuple[list[Messages], list[int]]:
    """Return the prompts in execution order, and that order."""

    def sample(some: Sequence[Any]) -> list[int]:
        values = [[block.value for block in context] for context in some]
        return ContextPilot(index_url="").reorder(values)[1]

    groups = [list(range(len(rows)))]
    if len(rows) > max_requests:
        read = BlockReader().read_batch([context for context, _ in rows])
        groups = clusters(read, max_requests, sample)
    prompts: list[Messages] = []
    order: list[int] = []
    for group in groups:
        batch, own = pilot.optimize_batch(
            [rows[at][0] for at in group], [rows[at][1] for at in group], **arguments
        )
        prompts += batch
        order += [group[at] for at in own]
    return prompts, order


def _told(prompt: Messages, place: int, partition: int, seen: Counter[str]) -> dict[str, Any]:
    """Return the columns of one prompt; equal prompts have keys of their own."""
    text = json.dumps(prompt, sort_keys=True)
    seen[text] += 1
    key = hashlib.sha256(f"{seen[text]} {text}".encode("utf-8", "surrogatepass")).hexdigest()
    values = (place, partition, prompt.plan_id, key[:32], list(prompt.order))
    return dict(zip(COLUMNS, (*values, prompt.total_tokens, list(prompt)), strict=True))

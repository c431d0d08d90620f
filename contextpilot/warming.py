"""Prompts that fill an empty cache with what yesterday's contexts shared, before anybody asks.

for messages in warm_prompts(pilot, yesterday, 200_000, system_instruction=system):
    client.chat.completions.create(model=model, messages=messages, max_tokens=1)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from contextpilot.block import Block, BlockKey, BlockReader, estimate_tokens
from contextpilot.options import CallOptions, Options
from contextpilot.pilot import ContextPilot
from contextpilot.plan.warm import Prefix, planned_paths, worth_computing
from contextpilot.prompt.messages import Messages

if TYPE_CHECKING:
    from typing_extensions import Unpack


def warm_prompts(
    pilot: ContextPilot,
    all_contexts: Sequence[Sequence[Any]],
    budget: int,
    *,
    system_instruction: str | None = None,
    namespace: str | None = None,
    **options: Unpack[CallOptions],
) -> Iterator[Messages]:
    """Yield prompts to send, one token each; the pilot plans by them from then on.

    Each is believed to be cached once it is yielded: send it before you ask for the next, and call
    `pilot.unsent(messages.request_id)` if you could not send it.

    Args:
        all_contexts: yesterday's contexts, most relevant block first, as for `optimize_batch`.
        budget: tokens to spend, including those of the system instruction.
        system_instruction: that of the coming requests.
        options: planning options, if they differ from the default.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of range; it is named.
    """
    contexts = BlockReader().read_batch(all_contexts)
    bounds = Options().override(**options).bounds
    room = budget - (estimate_tokens(system_instruction) if system_instruction else 0)
    blocks = {block.key: block for context in contexts for block in context}
    weights = {key: block.weight for key, block in blocks.items()}
    prefixes = worth_computing(planned_paths(contexts, bounds), weights, max(0, room))
    return prompts_of(pilot, prefixes, blocks, system_instruction, namespace)


def prompts_of(
    pilot: ContextPilot,
    prefixes: Sequence[Prefix],
    blocks: dict[BlockKey, Block],
    system_instruction: str | None = None,
    namespace: str | None = None,
) -> Iterator[Messages]:
    """Yield the prompt of each prefix, learnt by the pilot as one that is sent now."""
    for prefix in prefixes:
        yield pilot.optimize(
            [blocks[key].value for key in prefix.keys],
            "",
            system_instruction=system_instruction,
            namespace=namespace,
            reorder=False,
            annotate=False,
            deduplicate=False,
        )

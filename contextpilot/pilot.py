"""ContextPilot: the one class that most people use. It only composes the rooms."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from contextpilot.block import (
    CHARS_PER_TOKEN,
    Block,
    BlockReader,
    Tokenizer,
    estimate_tokens,
    unique,
)
from contextpilot.dedup.conversation import (
    HINT_TEMPLATE,
    Deduplication,
    hints_for_history,
)
from contextpilot.explain import Explanation, explain_plan
from contextpilot.namespace import Namespace, Namespaces
from contextpilot.options import Options
from contextpilot.plan.online import NO_HEAD, Head, Plan
from contextpilot.progress import ProgressBar
from contextpilot.prompt.annotate import annotate, check_template
from contextpilot.prompt.messages import (
    Message,
    Messages,
    check_history,
    message_texts,
    messages_key,
    new_request_id,
    render_user,
)

logger = logging.getLogger(__name__)

DEFAULT_NAMESPACE = "default"


class Reordered(list[Any]):
    """One context in its new order; `order[p]` is the original rank of the block at position p."""

    def __init__(self, blocks: Sequence[Any], order: Sequence[int]) -> None:
        super().__init__(blocks)
        self.order = tuple(order)


@dataclass(frozen=True)
class _Turn:
    """What one prompt is made of: `fresh` blocks are planned, the others stand as hints."""

    blocks: list[Block]
    fresh: list[Block]
    ranks: list[int]
    hints: dict[int, str]


class ContextPilot:
    """Plans context blocks so that the engine's prefix cache hits. Thread-safe.

    Args:
        use_gpu: plan batches on a GPU where one can be used; else on the CPU.
        namespace: isolates everything learnt (tenant, cache salt, LoRA, model); calls may name
            another.
        tokenizer: returns the number of tokens of a text; without it weights are estimates.
        max_blocks: bound on the blocks that the index of one namespace holds.
        window_size: recent contexts of a namespace that conditional support counts.
        max_namespaces: the least recently used namespaces beyond this are forgotten.
        options: defaults for every call, as in `Options`, and by name `reorder`, `pin_first`,
            `max_shift`, `min_gain_tokens`.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of range; it is named.
    """

    def __init__(
        self,
        use_gpu: bool = False,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        tokenizer: Tokenizer | None = None,
        max_blocks: int = 2_000_000,
        window_size: int = 4096,
        max_namespaces: int = 1000,
        **options: Any,
    ) -> None:
        self._options = Options().override(**options)
        self._reader = BlockReader(tokenizer)
        self._namespaces = Namespaces(max_blocks, window_size, max_namespaces)
        self._namespace = namespace
        self._namespaces.get(namespace)
        if use_gpu:
            logger.warning("use_gpu=True: this version plans on the CPU")

    # -- online ----------------------------------------------------------------------------------

    def optimize(
        self,
        contexts: Sequence[Any],
        query: str,
        *,
        conversation_id: str | None = None,
        system_instruction: str | None = None,
        history: Sequence[Message] | None = None,
        namespace: str | None = None,
        **options: Any,
    ) -> Messages:
        """Plan one request and return its chat messages.

        Args:
            contexts: the blocks of one context, most relevant first: strings, integers, or
                objects with a text (mappings, LangChain and LlamaIndex documents).
            query: the question, written after the blocks.
            conversation_id: records the blocks, for `deduplicate`.
            system_instruction: becomes the system message.
            history: earlier messages of the conversation, passed on unchanged. Blocks that stand
                in them word for word become reference hints.
            namespace: overrides the instance's namespace.
            options: override the instance's options for this call.

        Returns:
            A list of OpenAI chat messages with the attributes `request_id`, `order`, `hinted`.
        """
        blocks = self._reader.read(contexts, "contexts")
        setting = self._options.override(**options)
        _check_text("query", query)
        before = _opening(system_instruction, check_history(history))
        _check_conversation(conversation_id)
        space = self._space(namespace)
        turn = _split(blocks, before, setting)
        head = _head(before)
        with space.lock:
            plan = space.planner.plan(turn.fresh, setting.bounds, head)
            return self._commit(space, turn, plan, head, before, query, setting, conversation_id)

    def optimize_batch(
        self,
        all_contexts: Sequence[Sequence[Any]],
        queries: Sequence[str],
        *,
        system_instruction: str | None = None,
        namespace: str | None = None,
        **options: Any,
    ) -> tuple[list[Messages], list[int]]:
        """Plan a batch; return its messages in execution order, and that order.

        `messages[i]` belongs to `queries[order[i]]` and `all_contexts[order[i]]`.
        """
        contexts = self._reader.read_batch(all_contexts)
        setting = self._options.override(**options)
        if isinstance(queries, str) or not isinstance(queries, Sequence):
            raise TypeError(f"queries must be a list of strings, not {type(queries).__name__}")
        if len(queries) != len(contexts):
            raise ValueError(
                f"queries and all_contexts must be of equal length: {len(queries)} and "
                f"{len(contexts)}"
            )
        for i, query in enumerate(queries):
            _check_text(f"queries[{i}]", query)
        before = _opening(system_instruction, [])
        head = _head(before)
        space = self._space(namespace)
        turns = [_split(blocks, before, setting) for blocks in contexts]
        messages: list[Messages] = []
        order: list[int] = []
        for position, plan in self._walk(space, [turn.fresh for turn in turns], setting, head):
            messages.append(
                self._commit(
                    space, turns[position], plan, head, before, queries[position], setting, None
                )
            )
            order.append(position)
        return messages, order

    def reorder(
        self, contexts: Sequence[Any], *, namespace: str | None = None, **options: Any
    ) -> tuple[list[Reordered], list[int]]:
        """Plan a batch of contexts, or one context as a batch of one; return blocks, not messages.

        Returns:
            The contexts with their blocks reordered, in execution order, and that order:
            `reordered[i]` holds the blocks of `contexts[order[i]]`.
        """
        setting = self._options.override(**options)
        batch = self._read_any(contexts)
        space = self._space(namespace)
        reordered: list[Reordered] = []
        order: list[int] = []
        for position, plan in self._walk(space, batch, setting, NO_HEAD):
            context = batch[position]
            self._learn(space, context, plan, NO_HEAD, new_request_id())
            reordered.append(Reordered([context[rank].value for rank in plan.order], plan.order))
            order.append(position)
        return reordered, order

    # -- conversations ---------------------------------------------------------------------------

    def deduplicate(
        self,
        contexts: Sequence[Any],
        *,
        conversation_id: str,
        hint_template: str = HINT_TEMPLATE,
        namespace: str | None = None,
    ) -> Deduplication:
        """Compare one context with the blocks that a conversation has been given.

        For callers who write their own prompts: put a hint only where the conversation's earlier
        turns are in the same prompt. The new blocks are recorded.

        Raises:
            UnknownConversationError: no earlier call named `conversation_id`.
        """
        blocks = self._reader.read(contexts, "contexts")
        check_template("hint_template", hint_template, "first_line")
        _check_text("conversation_id", conversation_id)
        space = self._space(namespace)
        with space.lock:
            return space.conversations.deduplicate(conversation_id, blocks, hint_template)

    # -- what is known ---------------------------------------------------------------------------

    def explain(self, request: str | Messages, *, namespace: str | None = None) -> Explanation:
        """Tell why a request was expected to hit or miss.

        Args:
            request: what `optimize` returned, or its `request_id`.
        """
        request_id: Any = getattr(request, "request_id", request)
        _check_text("request", request_id)
        space = self._space(namespace)
        with space.lock:
            return space.explanations.get(request_id)

    def stats(self) -> dict[str, Any]:
        """Return per namespace the requests, tokens and expected hits, and the index's sizes."""
        result = {}
        for name, space in self._namespaces.items():
            with space.lock:
                counts, index = asdict(space.counts), space.planner.index.stats()._asdict()
                counts["conversations"] = len(space.conversations)
            result[name] = counts | index
        return result

    def reset(self, namespace: str | None = None) -> None:
        """Forget what was learnt in one namespace, or, without a name, in all."""
        self._namespaces.reset(namespace)

    # -- composition -----------------------------------------------------------------------------

    def _read_any(self, contexts: Sequence[Any]) -> list[list[Block]]:
        """Read a batch, or one context as a batch of one."""
        nested = isinstance(contexts, (list, tuple)) and (
            not contexts or any(isinstance(context, (list, tuple)) for context in contexts)
        )
        if nested:
            return self._reader.read_batch(contexts, "contexts")
        return [self._reader.read(contexts, "contexts")]

    def _space(self, namespace: str | None) -> Namespace:
        return self._namespaces.get(self._namespace if namespace is None else namespace)

    def _walk(
        self, space: Namespace, contexts: list[list[Block]], setting: Options, head: Head
    ) -> Any:
        """Yield (position, plan) in execution order; the lock is held while the caller learns."""
        if len(contexts) == 1:
            with space.lock:
                yield 0, space.planner.plan(contexts[0], setting.bounds, head)
            return
        from contextpilot.plan.batch import BatchPlanner  # SciPy takes a while to import

        planner = BatchPlanner(space.planner)
        with ProgressBar("planning") as progress:
            groups = planner.prepare(contexts, setting.bounds, head, progress)
        with space.lock:
            yield from planner.walk(contexts, groups, setting.bounds, head)

    def _commit(
        self,
        space: Namespace,
        turn: _Turn,
        plan: Plan,
        head: Head,
        before: list[Message],
        query: str,
        setting: Options,
        conversation_id: str | None,
    ) -> Messages:
        request_id = new_request_id()
        space.counts.hinted_blocks += len(turn.hints)
        if conversation_id is not None:
            space.conversations.add(conversation_id, (block.key for block in turn.blocks))
        order = [turn.ranks[i] for i in plan.order] + sorted(turn.hints)
        texts = _texts(turn, order)
        template = setting.ranking_template
        ranking = annotate(order, template) if template else ""
        user = {"role": "user", "content": render_user(texts, ranking, query)}
        hinted = sum(map(len, turn.hints.values()))
        tail = estimate_tokens(query) + estimate_tokens(ranking) + hinted // CHARS_PER_TOKEN
        self._learn(space, turn.fresh, plan, head, request_id, tail)
        return Messages(
            [*before, user], request_id=request_id, order=order, hinted=sorted(turn.hints)
        )

    def _learn(
        self,
        space: Namespace,
        blocks: list[Block],
        plan: Plan,
        head: Head,
        request_id: str,
        tail_tokens: int = 0,
    ) -> None:
        planner, counts = space.planner, space.counts
        explained = explain_plan(request_id, blocks, plan, head, planner.index, planner.window)
        space.explanations.add(explained)
        counts.requests += 1
        counts.tokens += explained.total_tokens
        counts.live_tokens += explained.matched_tokens
        planner.learn(blocks, plan, request_id, head, tail_tokens)
        self._namespaces.own(request_id, space)


_POSITION = "\0position\0"


def _split(blocks: list[Block], before: list[Message], setting: Options) -> _Turn:
    """Tell the blocks to plan from those that the prompt already holds."""
    if not setting.deduplicate or (not before and len({b.key for b in blocks}) == len(blocks)):
        return _Turn(blocks, blocks, list(range(len(blocks))), {})
    history = list(message_texts(before))
    known = hints_for_history(unique(blocks), history, setting.hint_template) if history else {}
    copy = setting.copy_template.format(position=_POSITION)
    fresh: dict[Any, int] = {}
    hints: dict[int, str] = {}
    ranks = []
    for rank, block in enumerate(blocks):
        if block.key in known:
            hints[rank] = known[block.key]
        elif fresh.setdefault(block.key, rank) != rank and len(copy) < len(block.text):
            hints[rank] = copy
        else:
            ranks.append(rank)
    return _Turn(blocks, [blocks[rank] for rank in ranks], ranks, hints)


def _texts(turn: _Turn, order: list[int]) -> list[str]:
    """Return what stands at each position: a block's text, or the hint that stands for it."""
    if not turn.hints:
        return [turn.blocks[rank].text for rank in order]
    position: dict[Any, int] = {}
    texts = []
    for at, rank in enumerate(order, start=1):
        block = turn.blocks[rank]
        first = position.setdefault(block.key, at)
        hint = turn.hints.get(rank)
        texts.append(block.text if hint is None else hint.replace(_POSITION, str(first)))
    return texts


def _opening(system_instruction: str | None, history: list[Message]) -> list[Message]:
    """Return the messages before the user message of this turn."""
    if system_instruction is None:
        return history
    _check_text("system_instruction", system_instruction)
    system = {"role": "system", "content": system_instruction}
    if history and history[0] == system:
        return history
    return [system, *history]


def _head(before: list[Message]) -> Head:
    if not before:
        return NO_HEAD
    tokens = sum(estimate_tokens(text) for text in message_texts(before))
    return Head((("head", messages_key(before)),), tokens)


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {type(value).__name__}")


def _check_conversation(conversation_id: Any) -> None:
    if conversation_id is not None:
        _check_text("conversation_id", conversation_id)

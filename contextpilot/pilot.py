"""ContextPilot: the class that most people use; it only composes the parts of the library."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from contextpilot.block import Block, BlockReader, Tokenizer
from contextpilot.dedup.conversation import HINT_TEMPLATE, Deduplication, unknown_conversation
from contextpilot.explain import Explanation
from contextpilot.fields import check_optional_text, check_text
from contextpilot.http.keys import checked_key
from contextpilot.namespace import Namespaces
from contextpilot.options import CallOptions, Options
from contextpilot.plan.online import NO_HEAD
from contextpilot.planning import Job, LocalPlanning, Planning, turns_job
from contextpilot.progress import is_asked_for
from contextpilot.prompt.annotate import check_template
from contextpilot.prompt.conversation.written_orders import WrittenOrders
from contextpilot.prompt.messages import Message, Messages, check_history
from contextpilot.prompt.turn import Turn, check_queries, head_of, opening
from contextpilot.renamed import renamed
from contextpilot.reordered import Reordered
from contextpilot.sync.receiver import Owner, SyncReceiver

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from contextpilot.endpoint import SyncEndpoint
    from contextpilot.kv_listening import KvListening
    from contextpilot.prompt.conversation.library import LibraryRewriter
    from contextpilot.prompt.conversation.rewritten import Rewritten
    from contextpilot.remote import RemotePlanning
    from contextpilot.sent import SentPrompts


DEFAULT_NAMESPACE = "default"


class ContextPilot:
    """Plans context blocks so that the engine's prefix cache hits. Thread-safe.

    Args:
        use_gpu: plan batches on a GPU if one is usable and faster; otherwise, and on an index
            server, on the CPU. The plans are the same.
        namespace: isolates everything learnt (tenant, cache salt, LoRA, model); calls may name
            another.
        tokenizer: returns the number of tokens of a text; without it weights are estimates.
        max_blocks: limit on the blocks of all namespaces together, about 300 bytes each.
        window_size: recent contexts per namespace that planning considers.
        max_namespaces: beyond this, the least used namespaces are forgotten.
        index_url: plan on this index server, shared with other processes and kept in sync by the
            engines. Default: CONTEXTPILOT_INDEX_URL, if set; "" always plans here.
        listen: "host:port" at which this instance receives the engines' events itself, and plans
            for other processes; `index_url` is then what to launch the engine with.
        kv_events: where an engine publishes KV events, and the engine whose `/tokenize` to use:
            "tcp://HOST:PORT,replay=tcp://HOST:PORT,engine=http://HOST:PORT".
        index_timeout_s: longest wait for the index server's plan of one request; while it does
            not answer, requests are planned here without waiting.
        progress: show a progress bar in a terminal while a large batch is planned. Default:
            CONTEXTPILOT_PROGRESS, otherwise no.
        image_model: name of the model that reads images ("Qwen2.5-VL-7B"); the tokens of an
            image depend on its family.
        options: defaults for every call, as in `Options`, and by name `reorder` and the members
            of `Bounds`: `displacement_cost`, `anchor`, `pin_first` and so on.

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
        window_size: int = 2048,
        max_namespaces: int = 1000,
        index_url: str | None = None,
        listen: str | None = None,
        kv_events: str | None = None,
        index_timeout_s: float = 2.0,
        progress: bool | None = None,
        image_model: str = "",
        **options: Unpack[CallOptions],
    ) -> None:
        self._options = Options().override(**options)
        check_text("image_model", image_model)
        self._reader = BlockReader(tokenizer, image_model=image_model)
        exact = tokenizer is not None
        self._namespaces = Namespaces(max_blocks, window_size, max_namespaces, exact_weights=exact)
        self._namespace = namespace
        self._namespaces.get(namespace)
        self._orders = WrittenOrders()
        self._receiver = SyncReceiver(self._owner, indexes=self._owners)
        shows_progress = is_asked_for(progress)
        self._planning: Planning = LocalPlanning(self._namespaces, shows_progress, use_gpu)
        self._endpoint: SyncEndpoint | None = None
        self._remote: RemotePlanning | None = None
        variable = "CONTEXTPILOT_INDEX_TOKEN"
        token = checked_key(variable, os.environ.get(variable, ""))
        if listen is not None:
            from contextpilot.endpoint import SyncEndpoint  # http.server takes a while to import

            others = LocalPlanning(self._namespaces)
            self._endpoint = SyncEndpoint(self._receiver, others, listen, token)
        else:
            url = os.environ.get("CONTEXTPILOT_INDEX_URL", "") if index_url is None else index_url
            if url:
                from contextpilot.remote import RemotePlanning  # as does requests

                self._planning = self._remote = RemotePlanning(
                    url, self._namespaces, token, index_timeout_s, shows_progress
                )
        self._kv_events: KvListening | None = None
        if kv_events is not None:
            from contextpilot.kv_listening import KvListening

            self._kv_events = KvListening(kv_events, self._receiver)
        self._sent: SentPrompts | None = None
        if self._endpoint or self._remote or self._kv_events:
            from contextpilot.sent import SentPrompts

            self._sent = SentPrompts(self._namespaces, self._kv_events)

    # -- online ----------------------------------------------------------------------------------

    @renamed(docs="contexts")
    def optimize(
        self,
        contexts: Sequence[Any],
        query: str,
        *,
        conversation_id: str | None = None,
        system_instruction: str | None = None,
        history: Sequence[Message] | None = None,
        namespace: str | None = None,
        **options: Unpack[CallOptions],
    ) -> Messages:
        """Plan one request and return its chat messages.

        Args:
            contexts: the blocks of one context, most relevant first: strings, integers, or
                objects with a text (mappings, LangChain and LlamaIndex documents).
            query: the question, written after the blocks.
            conversation_id: records the blocks, for `deduplicate`.
            system_instruction: becomes the system message.
            history: earlier messages of the conversation, passed on unchanged. Blocks that appear
                in them word for word become reference hints.
            namespace: overrides the instance's namespace.
            options: override the instance's options for this call.

        Returns:
            A list of OpenAI chat messages with the attributes `request_id`, `order`, `hinted`.
        """
        blocks = self._reader.read(contexts, "contexts")
        setting = self._options.override(**options)
        check_text("query", query)
        check_optional_text("conversation_id", conversation_id)
        before = opening(system_instruction, check_history(history))
        turn = Turn.split(blocks, before, setting)
        job = turns_job(self._name(namespace), [turn], [query], head_of(before))
        (planned,) = self._planning.run(job)
        self._record(job.namespace, planned.explanation, len(turn.hints), conversation_id, blocks)
        return self._follow(job, turn.write(planned.plan, planned.explanation, query))

    @renamed(all_docs="all_contexts", all_queries="queries")
    def optimize_batch(
        self,
        all_contexts: Sequence[Sequence[Any]],
        queries: Sequence[str],
        *,
        system_instruction: str | None = None,
        namespace: str | None = None,
        **options: Unpack[CallOptions],
    ) -> tuple[list[Messages], list[int]]:
        """Plan a batch; return its messages in execution order, and that order.

        `messages[i]` belongs to `queries[order[i]]` and `all_contexts[order[i]]`.
        """
        contexts = self._reader.read_batch(all_contexts)
        setting = self._options.override(**options)
        check_queries(queries, len(contexts))
        before = opening(system_instruction, [])
        turns = [Turn.split(blocks, before, setting) for blocks in contexts]
        job = turns_job(self._name(namespace), turns, queries, head_of(before))
        messages, order = [], []
        for planned in self._planning.run(job):
            turn, query = turns[planned.position], queries[planned.position]
            self._record(job.namespace, planned.explanation, len(turn.hints))
            written = turn.write(planned.plan, planned.explanation, query)
            messages.append(self._follow(job, written))
            order.append(planned.position)
        return messages, order

    def reorder(
        self,
        contexts: Sequence[Any],
        *,
        conversation_id: str | None = None,
        namespace: str | None = None,
        **options: Unpack[CallOptions],
    ) -> tuple[list[Reordered], list[int]]:
        """Plan a batch of contexts, or one context as a batch of one; return blocks, not messages.

        `conversation_id` records the blocks, for `deduplicate`.

        Returns:
            The contexts with their blocks reordered, in execution order, and that order:
            `reordered[i]` holds the blocks of `contexts[order[i]]`.
        """
        setting = self._options.override(**options)
        check_optional_text("conversation_id", conversation_id)
        batch = self._reader.read_one_or_batch(contexts)
        job = Job(self._name(namespace), batch, setting.bounds, NO_HEAD, [0] * len(batch))
        reordered, order = [], []
        for planned in self._planning.run(job):
            context, ranks = batch[planned.position], planned.plan.order
            self._record(job.namespace, planned.explanation, 0, conversation_id, context)
            values = [context[rank].value for rank in ranks]
            reordered.append(Reordered(values, ranks, planned.request_id))
            order.append(planned.position)
        return reordered, order

    # -- conversations ---------------------------------------------------------------------------

    def rewrite(
        self,
        messages: Sequence[Any],
        *,
        system: str | Sequence[Any] | None = None,
        tools: Sequence[Any] | None = None,
        response_format: Any = None,
        conversation_id: str | None = None,
        namespace: str | None = None,
        mode: str = "auto",
        scope: str | Collection[str] = "all",
        **options: Unpack[CallOptions],
    ) -> Rewritten:
        """Find the blocks in a whole conversation, plan them, and replace repeats.

        This is what the proxy does with a request. Pass the client's own history in each turn:
        earlier turns are reproduced as they were written, so that each prompt begins with the
        previous one. Found blocks move only if the prompt shows that they are documents found by
        a search; the text around them stays as it is, and the arguments are not modified.

            done = pilot.rewrite(messages)
            client.chat.completions.create(model=..., messages=done.messages)

        Args:
            messages: of Chat Completions, Anthropic or Responses, also as clients' objects.
            system: Anthropic's system prompt, or the instructions of Responses.
            tools: the request's tools; part of the prefix, never rewritten.
            response_format: the request's JSON schema or Pydantic model; documents stay if the
                answer must count them.
            conversation_id: records the blocks of the newest list, for `deduplicate`.
            namespace: overrides the instance's namespace.
            mode: the form of blocks to look for: "auto", "tool", "xml", "numbered", "json",
                "markdown", "separator", "parts"; "off" changes nothing.
            scope: whose messages to search: "all", or some of "system", "user", "tool".
            options: override the instance's options for this call.

        Raises:
            TypeError, ValueError: an argument is of the wrong kind or unknown; it is named.
        """
        setting = self._options.override(**options)
        name = self._name(namespace)
        check_optional_text("conversation_id", conversation_id)
        done, learnt = self._rewriter.rewrite(
            messages, system, tools, response_format, setting, name, mode, scope, self._planning
        )
        if learnt is not None:
            told, blocks = learnt
            self._record(name, told, done.num_hinted, conversation_id, blocks)
        return done

    def deduplicate(
        self,
        contexts: Sequence[Any],
        *,
        conversation_id: str,
        hint_template: str = HINT_TEMPLATE,
        namespace: str | None = None,
    ) -> Deduplication:
        """Compare one context with the blocks that a conversation has been given.

        For callers who write their own prompts: use a hint only if the conversation's earlier
        turns are in the same prompt. The new blocks are recorded.

        Raises:
            UnknownConversationError: no earlier call named `conversation_id`.
        """
        blocks = self._reader.read(contexts, "contexts")
        check_template("hint_template", hint_template, "first_line")
        check_text("conversation_id", conversation_id)
        space = self._namespaces.find(self._name(namespace))
        if space is None:
            raise unknown_conversation(conversation_id)
        with space.lock:
            found = space.conversations.deduplicate(conversation_id, blocks, hint_template)
        self._namespaces.settle(space)
        return found

    # -- what is known ---------------------------------------------------------------------------

    def explain(self, request: str | Messages, *, namespace: str | None = None) -> Explanation:
        """Say why a result of `optimize`, or its `request_id`, was expected to hit or miss."""
        request_id: Any = getattr(request, "plan_id", request)
        check_text("request", request_id)
        space = self._namespaces.find(self._name(namespace))
        if space is None:
            return Explanation(request_id)
        with space.lock:
            return space.explanations.get(request_id)

    def stats(self) -> dict[str, Any]:
        """Return per namespace the requests, tokens and expected hits, and the index's sizes.

        `weights` says where token counts come from: "tokenizer", "learnt" from the engine's
        counts of whole prompts, or "estimate"; `weight_ratio` is the factor on estimates.
        """
        return {name: space.stats() for name, space in self._namespaces.items()}

    def unsent(self, *request_ids: str) -> None:
        """Drop what is believed of these requests: they were planned, but not sent."""
        self._receiver.evict(request_ids)
        if self._remote is not None:
            self._remote.evict(request_ids)

    def counted(self, request_id: str, prompt_tokens: int) -> None:
        """Learn token weights from the engine's count of a request's prompt tokens."""
        if (owner := self._owner(request_id)) is not None and owner.tokens is not None:
            with owner.lock:
                owner.tokens.count(request_id, prompt_tokens)

    def engines(self) -> dict[str, dict[str, Any]]:
        """Return the engines that report to this instance: sync state, age of the last event."""
        return self._receiver.engines()

    @property
    def index_url(self) -> str | None:
        """The URL that engines report to, when this instance listens."""
        return self._endpoint.url if self._endpoint is not None else None

    def close(self) -> None:
        """Stop listening and close connections. Planning goes on; events no longer arrive."""
        parts: list[Any] = [self._remote, self._endpoint, self._kv_events]
        for part in filter(None, parts):
            part.close()
        self._endpoint = self._kv_events = None

    def __enter__(self) -> ContextPilot:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def reset(self, namespace: str | None = None) -> None:
        """Forget what was learnt in one namespace, or, without a name, in all."""
        check_optional_text("namespace", namespace)
        self._namespaces.reset(namespace)
        self._orders.forget(namespace)

    # -- composition -----------------------------------------------------------------------------

    @cached_property
    def _rewriter(self) -> LibraryRewriter:
        from contextpilot.prompt.conversation.library import LibraryRewriter  # it takes a while

        return LibraryRewriter(self._reader, self._orders)

    def _name(self, namespace: str | None) -> str:
        name = self._namespace if namespace is None else namespace
        check_text("namespace", name)
        return name

    def _owner(self, request_id: str) -> Owner | None:
        return Owner.of(space) if (space := self._namespaces.owner(request_id)) else None

    def _owners(self) -> list[Owner]:
        return [Owner.of(space) for _, space in self._namespaces.items()]

    def _follow(self, job: Job, messages: Messages) -> Messages:
        if self._sent is not None:
            self._sent.follow(job, messages)
        return messages

    def _record(
        self,
        namespace: str,
        explanation: Explanation,
        num_hinted: int = 0,
        conversation_id: str | None = None,
        blocks: Sequence[Block] = (),
    ) -> None:
        space = self._namespaces.get(namespace)
        space.record(explanation, num_hinted, conversation_id, blocks)
        if conversation_id is not None:
            self._namespaces.settle(space)

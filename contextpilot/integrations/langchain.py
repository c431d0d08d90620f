"""LangChain: an order for retrieved documents, messages from them, and middleware for agents.

    from contextpilot.integrations.langchain import ContextPilotMiddleware

    agent = create_agent(model, tools, middleware=[ContextPilotMiddleware()])

Written against langchain-core 1.8 and langchain 1.5. The classes for documents need langchain-core
only, the middleware needs langchain.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.documents import BaseDocumentCompressor, BaseDocumentTransformer, Document
from langchain_core.messages import BaseMessage, convert_to_messages, convert_to_openai_messages
from langchain_core.runnables import RunnableLambda
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict, Field, PydanticUserError, TypeAdapter

from contextpilot.pilot import ContextPilot

try:
    from langchain.agents.middleware import AgentMiddleware
except ImportError:  # only the agents need it
    AgentMiddleware = object

if TYPE_CHECKING:
    from langchain_core.callbacks import Callbacks

ORIGINAL_RANK = "original_rank"
"""Metadata: the rank that the retriever gave a document, from 1; stock prompts do not print it."""


class ContextPilotCompressor(BaseDocumentCompressor, BaseDocumentTransformer):
    """Returns the same documents in the order that the engine's prefix cache likes.

    Use it as the last step of retrieval: as the compressor of a `ContextualCompressionRetriever`,
    or after others in a `DocumentCompressorPipeline`. Nothing is left out, and nothing but
    `metadata["original_rank"]` is added; the documents that are given stay as they are.

    Args:
        pilot: what plans; share one among all that share an engine. Default: a new one.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    pilot: ContextPilot = Field(default_factory=ContextPilot)

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """Return the documents in the planned order; `query` and `callbacks` are not used."""
        return self.transform_documents(documents)

    def transform_documents(
        self, documents: Sequence[Document], **kwargs: Any
    ) -> Sequence[Document]:
        """Return the documents in the planned order."""
        if not documents:
            return []
        (planned,), _ = self.pilot.reorder([[document.page_content for document in documents]])
        return [_ranked(documents[rank], rank) for rank in planned.order]


def optimize_runnable(
    pilot: ContextPilot | None = None, *, context: str = "context", question: str = "question"
) -> RunnableLambda[dict[str, Any], list[BaseMessage]]:
    """Return a runnable that makes messages of `{"context": documents, "question": text}`.

        chain = {"context": retriever, "question": RunnablePassthrough()} | optimize_runnable()

    Args:
        pilot: what plans; default: a new one.
        context, question: the names of the two members.
    """
    planner = pilot or ContextPilot()

    def optimize(given: dict[str, Any]) -> list[BaseMessage]:
        planned = planner.optimize(list(given[context]), given[question])
        messages: list[BaseMessage] = convert_to_messages(list(planned))
        return messages

    return RunnableLambda(optimize)


class ContextPilotMiddleware(AgentMiddleware):
    """Rewrites what an agent sends to its model: `ContextPilot.rewrite`, before every call.

    The agent's own state is not changed. Repeats in tool results become references, search results
    move where that pays, and each prompt begins with the one before.

    Args:
        pilot: what plans; default: a new one.
        options: of `ContextPilot.rewrite`, for every call.
    """

    def __init__(self, pilot: ContextPilot | None = None, **options: Any) -> None:
        super().__init__()
        self.pilot = pilot or ContextPilot()
        self.saved_chars = 0
        self._options = options

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Call the model with the rewritten messages."""
        return handler(self._rewritten(request))

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Call the model with the rewritten messages."""
        return await handler(self._rewritten(request))

    def _rewritten(self, request: Any) -> Any:
        head = getattr(request, "system_message", None)  # 1.0 has a text there: it stays
        system = [] if head is None else [head]
        messages = [*system, *request.messages]
        given = convert_to_openai_messages(messages)
        if len(given) != len(messages):  # parts of messages became messages: whose is which?
            return request
        tools = [convert_to_openai_tool(tool) for tool in request.tools or ()]
        options = self._options
        try:
            options = {**options, "response_format": _schema_of(request.response_format)}
        except PydanticUserError:  # its fields may follow the documents' order, and nobody knows
            options = {**options, "reorder": False}
        done = self.pilot.rewrite(given, tools=tools, **options)
        self.saved_chars = done.saved_chars
        changed = list(map(_with_content, messages, given, done.messages))
        told = {"system_message": changed.pop(0)} if system else {}
        return request.override(messages=changed, **told)


def _schema_of(response_format: Any) -> dict[str, Any] | None:
    """Return the JSON schema of an answer's form, which a strategy may hold; None for none."""
    form = getattr(response_format, "schema", response_format)
    if isinstance(response_format, type):  # pydantic's classes have a method of that name
        form = response_format
    if form is None or isinstance(form, dict):
        return form
    return TypeAdapter(form).json_schema()


def _ranked(document: Document, rank: int) -> Document:
    metadata = {**document.metadata, ORIGINAL_RANK: rank + 1}
    return document.model_copy(update={"metadata": metadata})


def _with_content(message: BaseMessage, old: Any, new: Any) -> BaseMessage:
    """Return the message with the text that became of it; all else stays as LangChain has it."""
    if new == old or message.content != old["content"]:  # or its content has another form
        return message
    return message.model_copy(update={"content": new["content"]})

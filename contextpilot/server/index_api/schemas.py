"""Bodies of the index API: what is accepted, and what `/docs` shows."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    WithJsonSchema,
)

from contextpilot.images.image import ImageApi
from contextpilot.images.sources import IMAGE_PARTS
from contextpilot.jobs import MAX_JOB_ID_CHARS
from contextpilot.sync.events import MAX_NAME_CHARS, VERSION

Item = TypeVar("Item")
Items = Annotated[list[Item], Field(fail_fast=True)]
"""A list of which no more than the first fault is told: a fault takes more memory than an item."""
BlockObject = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "description": "A block with its text, an id, or both; a text identifies the block. "
            "Or an image: a content part, or an object whose `image` is a part or an address.",
            "properties": {
                "text": {"type": "string"},
                "id": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            },
            "anyOf": [
                {"required": ["text"]},
                {"required": ["id"]},
                {"required": ["image"]},
                {"properties": {"type": {"enum": [*IMAGE_PARTS]}}, "required": ["type"]},
            ],
        }
    ),
]
FIRST_FIT = Field(union_mode="left_to_right")
"""By default pydantic checks a list against every member of a union, though one has fitted."""
Context = Annotated[Items[StrictStr] | Items[StrictInt] | Items[BlockObject], FIRST_FIT]
Events = Annotated[list[Any], WithJsonSchema({"type": "array", "items": {"type": "object"}})]
"""Checked one by one, beside the event loop, when the message is taken."""
Name = Annotated[StrictStr, Field(max_length=512)]
Count = Annotated[StrictInt, Field(ge=0, le=1 << 31)]


class Body(BaseModel):
    """A request body; fields that are not declared are errors."""

    model_config = ConfigDict(extra="forbid")


_NAMESPACE = "what is learnt in one is unknown in all others"
_CONVERSATION = "the conversation that the blocks belong to"
_OPTIONS = (
    "reorder",
    "pin_first",
    "max_shift",
    "min_gain_tokens",
    "displacement_cost",
    "anchor",
    "anchor_blocks",
    "annotate",
    "deduplicate",
    "image_api",
)


class Planning(Body):
    """What every planning request may say."""

    namespace: Name = Field("default", description=_NAMESPACE)
    reorder: StrictBool | None = Field(None, description="false keeps the order as given")
    pin_first: Count | None = Field(None, description="keep this many leading blocks in place")
    max_shift: Count | None = Field(None, description="move no block by more ranks than this")
    min_gain_tokens: Count | None = Field(
        None, description="keep the order if fewer tokens than this are known to recur"
    )
    displacement_cost: Count | None = Field(
        None, description="gain in tokens that justifies moving the best block to the end"
    )
    anchor: Literal["auto", "none", "moved", "end"] | None = Field(
        None, description="when to put the best blocks next to the question"
    )
    anchor_blocks: Count | None = Field(None, description="how many blocks anchor applies to")

    def options(self) -> dict[str, Any]:
        """Return the options that were given, by name."""
        given = self.__dict__  # its look-ups of what is absent take long
        return {name: given[name] for name in _OPTIONS if given.get(name) is not None}


class ReorderBody(Planning):
    """One context, or a list of contexts."""

    contexts: Annotated[Context | Items[Context], FIRST_FIT] = Field(
        examples=[["a block", "another block"]]
    )
    stateless: StrictBool = Field(False, description="ignore what is known, learn nothing")

    def batch(self) -> list[Any]:
        """Return the contexts; one context is a batch of one."""
        nested = not self.contexts or isinstance(self.contexts[0], list)
        return list(self.contexts) if nested else [self.contexts]


class Shortening(Planning):
    """What every request that writes messages may say of how they are written."""

    annotate: StrictBool | StrictStr | None = Field(
        None, description="add a ranking after blocks that moved far; or a template for it"
    )
    deduplicate: StrictBool | None = Field(
        None, description="replace blocks that the prompt already holds with short hints"
    )


class Writing(Shortening):
    """What every request for messages may say."""

    system_instruction: StrictStr | None = Field(None, description="becomes the system message")
    image_api: ImageApi | None = Field(
        None, description="whose content parts are written for images"
    )


class OptimizeBody(Writing):
    """One request."""

    contexts: Context = Field(description="the blocks, most relevant first")
    query: StrictStr = Field(description="the question, written after the blocks")
    conversation_id: Name | None = Field(None, description=_CONVERSATION)
    history: Items[dict[str, Any]] | None = Field(
        None, description="earlier messages, passed on unchanged"
    )


class OptimizeBatchBody(Writing):
    """Requests that are planned together."""

    all_contexts: Items[Context] = Field(description="the blocks of each request")
    queries: Items[StrictStr] = Field(description="one question per request")


class RewriteBody(Shortening):
    """A whole conversation, as its client has it, to be searched for blocks and repeats."""

    messages: Items[dict[str, Any]] = Field(
        description="of Chat Completions, Anthropic or Responses: those of the last turn, and more"
    )
    system: StrictStr | Items[dict[str, Any]] | None = Field(
        None, description="Anthropic's system prompt, or the instructions of Responses"
    )
    tools: Items[dict[str, Any]] | None = Field(
        None, description="part of the prompt before the messages; never rewritten"
    )
    response_format: dict[str, Any] | None = Field(
        None, description="the request's; documents stay if the answer must count them"
    )
    mode: StrictStr = Field("auto", description="the form of blocks to look for")
    scope: StrictStr | Items[StrictStr] = Field("all", description="whose messages to search")


class DeduplicateBody(Body):
    """One context of a conversation."""

    contexts: Context = Field(description="the blocks of one context")
    conversation_id: Name = Field(description=_CONVERSATION)
    namespace: Name = Field("default", description=_NAMESPACE)
    hint_template: StrictStr | None = Field(
        None, description="template of the hint for a block, with {first_line}"
    )


class EngineBody(Body):
    """An engine that joins; the default `name` is the host and port of its URL.

    `kv_events` is where it publishes KV events, as in the flag of that name.
    """

    url: Annotated[StrictStr, Field(max_length=2048, examples=["http://127.0.0.1:30000"])]
    name: Annotated[StrictStr, Field(min_length=1, max_length=200)] | None = None
    kv_events: (
        Annotated[StrictStr, Field(max_length=1024, examples=["tcp://127.0.0.1:5557"])] | None
    ) = None


class EvictBody(Body):
    """Requests whose prompts are completely gone from the engine's cache."""

    request_ids: Items[StrictStr]


class ResetBody(Body):
    """What to forget: one namespace, or, without a name, everything."""

    namespace: Name | None = None


class SyncBody(BaseModel):
    """A numbered message of an engine, in any version of the event schema up to today's."""

    version: Annotated[StrictInt, Field(ge=1, le=VERSION)]
    engine: Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]
    epoch: Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]
    seq: Annotated[int, Field(ge=0)]
    events: Events
    snapshot: bool = False
    more: Annotated[int, Field(ge=0)] = 0
    dropped: Annotated[int, Field(ge=0)] = 0
    sparse: bool = False
    kind: str = ""
    engine_version: str = ""
    block_size: Annotated[int, Field(ge=0)] = 1
    ram_limit_bytes: Annotated[int, Field(ge=0)] | None = None
    pid: Annotated[int, Field(ge=0)] | None = None


class PlanBody(BaseModel):
    """A job from another process: keys and weights, never texts. `id` is new for each job."""

    id: Annotated[StrictStr, Field(max_length=MAX_JOB_ID_CHARS)] | None = None
    namespace: str
    contexts: Items[Items[tuple[Any, int]]]
    bounds: dict[str, Any]
    head: tuple[Items[Any], int]
    tails: Items[int]


class Reordered(BaseModel):
    """`contexts[i]` holds the blocks of the request's context `order[i]`; `ranks[i][p]` is the
    original rank of the block at position p."""

    contexts: list[list[Any]]
    order: list[int]
    ranks: list[list[int]]
    request_ids: list[str]
    engine: str | None


class Prompt(BaseModel):
    """Chat messages and how they were planned."""

    messages: list[dict[str, Any]]
    request_id: str
    ranks: list[int]
    hinted: list[int]


class Prompts(BaseModel):
    """`prompts[i]` belongs to the request's query `order[i]`."""

    prompts: list[Prompt]
    order: list[int]


class Rewritten(BaseModel):
    """A conversation ready for the engine; `reason` says why nothing was rewritten.

    `ranks` and `num_hinted` are of the last list of blocks that was found.
    """

    messages: list[dict[str, Any]]
    system: str | list[dict[str, Any]] | None
    request_id: str
    ranks: list[int]
    num_hinted: int
    saved_chars: int
    reason: str


class Deduplicated(BaseModel):
    """The new blocks, and a hint for each block that the conversation holds."""

    new_blocks: list[Any]
    overlapping_blocks: list[Any]
    reference_hints: list[str]


class ErrorDetail(BaseModel):
    """What is wrong, and which field of the body (null: none)."""

    message: str
    field: str | None


class ErrorReply(BaseModel):
    """Every error of the index API."""

    error: ErrorDetail

"""Bodies of the index API: what is accepted, and what `/docs` shows."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, WithJsonSchema

from contextpilot.jobs import MAX_JOB_ID_CHARS
from contextpilot.sync.events import MAX_NAME_CHARS, VERSION

BlockObject = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "description": "A block with its text, an id, or both; a text identifies the block.",
            "properties": {
                "text": {"type": "string"},
                "id": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            },
            "anyOf": [{"required": ["text"]}, {"required": ["id"]}],
        }
    ),
]
FIRST_FIT = Field(union_mode="left_to_right")
"""By default pydantic checks a list against every member of a union, though one has fitted."""
Context = Annotated[list[StrictStr] | list[StrictInt] | list[BlockObject], FIRST_FIT]
Events = Annotated[list[Any], WithJsonSchema({"type": "array", "items": {"type": "object"}})]
"""Checked one by one, beside the event loop, when the message is taken."""
Name = Annotated[StrictStr, Field(max_length=512)]
Count = Annotated[StrictInt, Field(ge=0, le=1 << 31)]


class Body(BaseModel):
    """A request body; fields that are not declared are errors."""

    model_config = ConfigDict(extra="forbid")


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
)


class Planning(Body):
    """What every planning request may say."""

    namespace: Name = "default"
    reorder: StrictBool | None = None
    pin_first: Count | None = None
    max_shift: Count | None = None
    min_gain_tokens: Count | None = None
    displacement_cost: Count | None = None
    anchor: Literal["none", "moved", "end"] | None = None
    anchor_blocks: Count | None = None

    def options(self) -> dict[str, Any]:
        """Return the options that were given, by name."""
        given = self.__dict__  # its look-ups of what is absent take long
        return {name: given[name] for name in _OPTIONS if given.get(name) is not None}


class ReorderBody(Planning):
    """One context, or a list of contexts."""

    contexts: Annotated[Context | list[Context], FIRST_FIT] = Field(
        examples=[["a block", "another block"]]
    )
    stateless: StrictBool = Field(False, description="use nothing known, learn nothing")

    def batch(self) -> list[Any]:
        """Return the contexts; one context is a batch of one."""
        nested = not self.contexts or isinstance(self.contexts[0], list)
        return list(self.contexts) if nested else [self.contexts]


class Writing(Planning):
    """What every request for messages may say."""

    system_instruction: StrictStr | None = None
    annotate: StrictBool | StrictStr | None = None
    deduplicate: StrictBool | None = None


class OptimizeBody(Writing):
    """One request."""

    contexts: Context
    query: StrictStr
    conversation_id: Name | None = None
    history: list[dict[str, Any]] | None = None


class OptimizeBatchBody(Writing):
    """Requests that are planned together."""

    all_contexts: list[Context]
    queries: list[StrictStr]


class DeduplicateBody(Body):
    """One context of a conversation."""

    contexts: Context
    conversation_id: Name
    namespace: Name = "default"
    hint_template: StrictStr | None = None


class EngineBody(Body):
    """An engine that joins; `name` is host and port of its URL where it is left out."""

    url: Annotated[StrictStr, Field(max_length=2048, examples=["http://127.0.0.1:30000"])]
    name: Annotated[StrictStr, Field(min_length=1, max_length=200)] | None = None


class EvictBody(Body):
    """Requests whose prompts are wholly gone from the engine's cache."""

    request_ids: list[StrictStr]


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
    """A job of another process: keys and weights, never texts. `id` is new for each job."""

    id: Annotated[StrictStr, Field(max_length=MAX_JOB_ID_CHARS)] | None = None
    namespace: str
    contexts: list[list[tuple[Any, int]]]
    bounds: dict[str, Any]
    head: tuple[list[Any], int]
    tails: list[int]


class Reordered(BaseModel):
    """`contexts[i]` holds the blocks of the request's context `order[i]`; `ranks[i][p]` is the
    original rank of the block at position p."""

    contexts: list[list[Any]]
    order: list[int]
    ranks: list[list[int]]
    request_ids: list[str]
    engine: str | None


class Prompt(BaseModel):
    """Chat messages and how they came about."""

    messages: list[dict[str, Any]]
    request_id: str
    ranks: list[int]
    hinted: list[int]


class Prompts(BaseModel):
    """`prompts[i]` belongs to the request's query `order[i]`."""

    prompts: list[Prompt]
    order: list[int]


class Deduplicated(BaseModel):
    """The new blocks, and for each block that the conversation holds a hint."""

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

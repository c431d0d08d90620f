"""LlamaIndex: an order for retrieved nodes, in query engines and in chat engines.

    from contextpilot.integrations.llama_index import ContextPilotPostprocessor

    engine = index.as_query_engine(node_postprocessors=[ContextPilotPostprocessor()])

Written against llama-index-core 0.14.
"""

from __future__ import annotations

from llama_index.core.bridge.pydantic import ConfigDict, Field
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

from contextpilot.pilot import ContextPilot

ORIGINAL_RANK = "original_rank"
"""Metadata: the rank that the retriever gave a node, from 1; kept out of the model's prompt."""


class ContextPilotPostprocessor(BaseNodePostprocessor):
    """Returns the same nodes in the order that the engine's prefix cache likes.

    Put it last among the postprocessors. Nodes count as equal when the model would read the same,
    metadata included. Scores and ids stay; `metadata["original_rank"]` is added to copies, and
    excluded from what the model and the embedder read.

    Args:
        pilot: what plans; share one among all that share an engine. Default: a new one.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    pilot: ContextPilot = Field(default_factory=ContextPilot, exclude=True)

    @classmethod
    def class_name(cls) -> str:
        """Return the name that LlamaIndex stores."""
        return "ContextPilotPostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if not nodes:
            return nodes
        texts = [scored.node.get_content(metadata_mode=MetadataMode.LLM) for scored in nodes]
        (planned,), _ = self.pilot.reorder([texts])
        return [_ranked(nodes[rank], rank) for rank in planned.order]


def _ranked(scored: NodeWithScore, rank: int) -> NodeWithScore:
    node = scored.node
    hidden = {
        name: [*getattr(node, name), ORIGINAL_RANK]
        for name in ("excluded_llm_metadata_keys", "excluded_embed_metadata_keys")
        if hasattr(node, name) and ORIGINAL_RANK not in getattr(node, name)
    }
    metadata = {**node.metadata, ORIGINAL_RANK: rank + 1}
    copy = node.model_copy(update={"metadata": metadata, **hidden})
    return scored.model_copy(update={"node": copy})

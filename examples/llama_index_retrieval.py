"""Nodes of a LlamaIndex retriever: python examples/llama_index_retrieval.py

Needs `pip install '.[llama-index]'`. The postprocessor comes last, in query engines and in chat
engines. Prints how much of each prompt begins like an earlier one.
"""

from __future__ import annotations

from llama_index.core.schema import NodeWithScore, TextNode
from pretend_engine import shared
from retrieval import QUESTIONS, retrieve

from contextpilot.integrations.llama_index import ContextPilotPostprocessor


def reused(planned: bool) -> float:
    """Return the share of the prompts' nodes that an engine has read before."""
    processor, prompts, known = ContextPilotPostprocessor(), list[str](), 0
    for question in QUESTIONS:
        found = [NodeWithScore(node=TextNode(text=text)) for text in retrieve(question)]
        chosen = processor.postprocess_nodes(found, query_str=question) if planned else found
        prompt = "\n\n".join(scored.node.get_content() for scored in chosen)
        known += max((shared(prompt, one) for one in prompts), default=0)
        prompts.append(prompt)
    return known / sum(map(len, prompts))


if __name__ == "__main__":
    print(f"in the cache: {reused(False):.1%} in the order given, {reused(True):.1%} planned")

"""Documents of a LangChain retriever: python examples/langchain_retrieval.py

Needs `pip install '.[langchain]'`. The compressor is the last step of retrieval; its result goes
into whatever prompt you write. Prints how much of each prompt begins like an earlier one.
"""

from __future__ import annotations

from langchain_core.documents import Document
from pretend_engine import shared
from retrieval import QUESTIONS, retrieve

from contextpilot.integrations.langchain import ContextPilotCompressor


def reused(planned: bool) -> float:
    """Return the share of the prompts' documents that an engine has read before."""
    compressor, prompts, known = ContextPilotCompressor(), list[str](), 0
    for question in QUESTIONS:
        found = [Document(text) for text in retrieve(question)]
        chosen = compressor.compress_documents(found, question) if planned else found
        prompt = "\n\n".join(document.page_content for document in chosen)
        known += max((shared(prompt, one) for one in prompts), default=0)
        prompts.append(prompt)
    return known / sum(map(len, prompts))


if __name__ == "__main__":
    print(f"in the cache: {reused(False):.1%} in the order given, {reused(True):.1%} planned")

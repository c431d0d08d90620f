"""What LlamaIndex's users see; run by test_stacks.py where LlamaIndex is."""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from guides import run_blocks
from llama_index.core.chat_engine import ContextChatEngine
from llama_index.core.llms import CompletionResponse, CustomLLM, LLMMetadata
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode

from contextpilot.integrations.llama_index import ContextPilotPostprocessor

ROUNDS = [(1, 2, 3, 4, 5), (3, 9, 1, 2, 6), (5, 3, 2, 1, 7), (2, 3, 8, 1, 10)]


def text(number: int) -> str:
    words = random.Random(number)
    return f"Passage {number}. " + " ".join(f"word{words.randrange(999)}" for _ in range(50))


def nodes(*numbers: int) -> list[NodeWithScore]:
    return [
        NodeWithScore(
            node=TextNode(id_=f"n{n}", text=text(n), metadata={"file": f"{n}.txt"}), score=1 / n
        )
        for n in numbers
    ]


def test_nodes_are_kept_and_share_a_prefix() -> None:
    processor = ContextPilotPostprocessor()
    processor.postprocess_nodes(nodes(1, 2, 3, 4), query_str="first?")
    given = nodes(3, 9, 1, 2)
    second = processor.postprocess_nodes(given, query_str="second?")
    assert [scored.node_id for scored in second[:3]] == ["n1", "n2", "n3"]
    assert {scored.node_id: scored.score for scored in second} == {
        scored.node_id: scored.score for scored in given
    }
    assert [given[s.node.metadata["original_rank"] - 1].node_id for s in second] == [
        scored.node_id for scored in second
    ]
    assert all("original_rank" not in scored.node.metadata for scored in given)
    read = {s.node_id: s.node.get_content(metadata_mode=MetadataMode.LLM) for s in second}
    assert read == {s.node_id: s.node.get_content(metadata_mode=MetadataMode.LLM) for s in given}
    assert processor.postprocess_nodes([], query_str="none?") == []


def test_the_asynchronous_form() -> None:
    processor = ContextPilotPostprocessor()
    asyncio.run(processor.apostprocess_nodes(nodes(1, 2, 3), query_str="first?"))
    second = asyncio.run(processor.apostprocess_nodes(nodes(3, 2, 1), query_str="second?"))
    assert [scored.node_id for scored in second] == ["n1", "n2", "n3"]


class Rounds(BaseRetriever):
    """Finds the nodes of one round after another."""

    def __init__(self) -> None:
        super().__init__()
        self._rounds = iter(ROUNDS)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return nodes(*next(self._rounds))


class Noting(CustomLLM):
    """Answers "yes", and keeps the prompts that it was sent."""

    prompts: list[str]

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(context_window=200_000, num_output=10)

    def complete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponse:
        self.prompts.append(prompt)
        return CompletionResponse(text="yes")

    def stream_complete(self, prompt: str, formatted: bool = False, **_: Any) -> Any:
        yield self.complete(prompt)


def common(one: str, other: str) -> int:
    """Characters that two texts have in common at their beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def shared(prompts: list[str]) -> int:
    """Characters that prompts have in common with the beginning of one before them."""

    earlier = ((prompt, prompts[:n]) for n, prompt in enumerate(prompts) if n)
    return sum(max(map(partial(common, prompt), ones)) for prompt, ones in earlier)


def asked(kind: str, processors: list[Any]) -> tuple[int, list[list[str]]]:
    llm, answers = Noting(prompts=[]), []
    if kind == "query":
        engine = RetrieverQueryEngine.from_args(Rounds(), llm=llm, node_postprocessors=processors)
        answers = [engine.query(f"Question {n}?") for n in range(len(ROUNDS))]
    else:
        chat = ContextChatEngine.from_defaults(
            retriever=Rounds(), llm=llm, node_postprocessors=processors
        )
        answers = [chat.chat(f"Question {n}?") for n in range(len(ROUNDS))]
    assert len(llm.prompts) == len(ROUNDS)
    return shared(llm.prompts), [sorted(s.node_id for s in a.source_nodes) for a in answers]


def test_prompts_of_query_and_chat_engines_share_more_than_twice_as_much() -> None:
    for kind in ("query", "chat"):
        given, sources = asked(kind, [])
        planned, same = asked(kind, [ContextPilotPostprocessor()])
        assert planned > 2 * given
        assert sources == same


def test_the_guides_code_runs() -> None:
    run_blocks("llama-index.md")


def test_the_example_hits_more_than_twice_as_often() -> None:
    example = Path(__file__).resolve().parents[2] / "examples" / "llama_index_retrieval.py"
    run = subprocess.run([sys.executable, example], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    given, planned = map(float, re.findall(r"([\d.]+)%", run.stdout))
    assert planned > 2 * given > 0

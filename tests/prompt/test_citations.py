"""From what an answer cites to the documents that the caller passed."""

from __future__ import annotations

import copy
import pickle
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

import contextpilot as cp
from contextpilot.prompt.citations import citations
from contextpilot.prompt.messages import Messages

TEXTS = [f"{name} lies by a lake. " + f"It rains in {name}. " * 20 for name in "ABCDEF"]


class Document:
    """An object that cannot be pickled, as those that hold a connection."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lock = threading.Lock()


def planned() -> tuple[list[Document], Messages]:
    pilot = cp.ContextPilot(displacement_cost=0, min_gain_tokens=0)
    pilot.optimize(TEXTS[:3], "first?")
    documents = [Document(TEXTS[at]) for at in (3, 2, 1, 0)]
    return documents, pilot.optimize(documents, "second?")


def test_a_number_leads_to_the_document_under_it() -> None:
    documents, messages = planned()
    assert messages.order == (3, 2, 1, 0)
    assert f"[2] {TEXTS[1]}" in messages[-1]["content"]
    answer = "It rains [2], also elsewhere[1, 4]."
    found = messages.citations(answer)
    assert [one.block for one in found] == [documents[2], documents[3], documents[0]]
    assert [one.rank for one in found] == [2, 3, 0]
    assert answer[found[1].start : found[1].end] == "[1, 4]"


def test_what_was_saved_is_told() -> None:
    _, messages = planned()
    assert messages.num_moved == 4
    assert messages.total_tokens > messages.live_tokens > messages.total_tokens // 2
    assert messages.saved_tokens == 0
    pilot = cp.ContextPilot()
    once = pilot.optimize(TEXTS[:2], "q")
    history = [*once, {"role": "assistant", "content": "a"}]
    again = pilot.optimize(TEXTS[:3], "q", history=history)
    assert again.hinted == (0, 1)
    assert again.saved_tokens > once.total_tokens // 2


@pytest.mark.parametrize(
    ("answer", "numbers"),
    [
        ("none", []),
        ("[0] [7] [x] [] [1.5]", []),
        ("[1][2], then [2 - 4] and [5;6]", [1, 2, 2, 3, 4, 5, 6]),
        ("[4-2]", []),
        ("[6–9]", [6]),
        ("[" + "9" * 5000 + "]", []),
    ],
)
def test_what_counts_as_a_citation(answer: str, numbers: list[int]) -> None:
    assert [one.number for one in citations(answer, range(6), ())] == numbers


@given(st.permutations(range(6)), st.lists(st.integers(1, 6)), st.text("[]1,- a", max_size=9))
def test_every_number_leads_to_its_place(order: list[int], cited: list[int], noise: str) -> None:
    answer = "".join(f"so [{number}]" for number in cited)
    found = citations(answer, order, list("abcdef"))
    assert [one.rank for one in found] == [order[number - 1] for number in cited]
    assert all(one.block == "abcdef"[one.rank] for one in found)
    assert all(1 <= one.number <= 6 for one in citations(noise, order, ()))


def test_ranks_survive_pickles_and_blocks_what_stays_in_the_process() -> None:
    documents, messages = planned()
    for same in (messages.copy(), copy.copy(messages), messages[:], [] + messages):  # noqa: RUF005
        assert same.citations("[1]")[0].block is documents[3]
    for other in (pickle.loads(pickle.dumps(messages)), copy.deepcopy(messages)):
        assert other == messages
        assert other.request_id == messages.request_id
        (cited,) = other.citations("[1]")
        assert (cited.rank, cited.block) == (3, None)


def test_numbers_of_a_rewritten_conversation_are_the_callers_own() -> None:
    pilot = cp.ContextPilot()
    done = pilot.rewrite([{"role": "user", "content": "x"}])
    with pytest.raises(TypeError, match="caller's own"):
        done.messages.citations("[1]")
    with pytest.raises(TypeError, match="answer must be a string"):
        pilot.optimize(["a"], "q").citations(None)  # type: ignore[arg-type]

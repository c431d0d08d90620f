"""Questions whose answers hang on no order are told from others by evidence, not by a list."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contextpilot.prompt.extract import look
from contextpilot.prompt.extract.question import question_in, read_question
from contextpilot.prompt.extract.surroundings import _MAX_LATER

BLOCKS = [
    "The first lock of the canal was dug in 1741 and is nine metres long.",
    "Barges wait above the weir until the keeper opens the gates, mostly for half an hour.",
    "In dry summers the canal is closed, since its springs give too little water.",
]
DOCUMENTS = "<documents>" + "".join(f"<document>{b}</document>" for b in BLOCKS) + "</documents>"


def reason(*messages: tuple[str, str]) -> str:
    """Why documents stay before these messages; "" if they may move."""
    told: list[Any] = [{"role": role, "content": text} for role, text in messages]
    looked = look(told)
    return "" if looked.extraction is not None else looked.left[0].code


def asked(question: str) -> str:
    return reason(("user", f"{DOCUMENTS}\n\n{question}"))


@pytest.mark.parametrize(
    "question",
    [
        "How long is the first lock?",
        "When did barges start to use the canal?",
        "Why is the canal closed in summer?",
        "Wann beginnt die Wartezeit?",
        "Frage: Wann endet die Wartezeit?",
        "Quand commence la navigation ?",
        "¿Cuándo termina la temporada?",
        "Когда начинается навигация?",
        "Wie lang ist die Schleuse?",
        "運河の長さは？",
        "What is the difference between a lock and a weir?",
        "Question: how long do barges wait above the weir?\nAnswer:",
        "Use the documents above. Say so if they do not tell. How old is the lock?",
    ],
)
def test_questions_of_facts_let_documents_move(question: str) -> None:
    assert asked(question) == ""


@pytest.mark.parametrize(
    "question",
    [
        "What precedes the barges?",
        "Start with the bottom and go up.",
        "Wann beginnt der zweite Text?",
        "Womit beginnt die Liste?",
        'When was the lock dug? Reply as {"answer": str, "doc": int}.',
        "When was the lock dug? Name the source, counting from zero.",
        "On which line does the weir appear?",
        "In welcher Zeile steht barges?",
        "Quand finit-il, et que dit le suivant ?",
        "Cuando termina uno, ¿qué dice el siguiente?",
        "Is the weir told of before or after the canal?",
        "Womit hört es auf, und was steht davor?",
        "Qu'est-ce qui vient juste avant les péniches ?",
        "一番上は？",
        "Xyzzy.",
        "Sum up.",
        "Barges, springs, lock: 3, 1 or 2?",
    ],
)
def test_what_may_hang_on_the_order_keeps_it(question: str) -> None:
    assert asked(question) in ("question-unsure", "position-asked", "order-asked")


def test_words_of_order_are_excused_where_a_document_says_so_of_the_same() -> None:
    assert asked("Who dug the first lock?") == ""
    assert asked("Who dug the second lock?") == "question-unsure"
    assert asked("Do barges wait above the weir?") == ""


def test_documents_without_a_question_need_none() -> None:
    assert reason(("user", DOCUMENTS)) == ""
    assert reason(("user", f"Answer from these documents.\n\n{DOCUMENTS}")) == ""


def test_documents_of_the_system_are_asked_for_by_the_user() -> None:
    system = ("system", f"Use these documents.\n\n{DOCUMENTS}")
    assert reason(system, ("user", "How long is the lock?")) == ""
    assert reason(system, ("user", "Begin at the end.")) == "question-unsure"
    greeted = (system, ("user", "Hi!"), ("assistant", "Hi. What is it about?"))
    for turns in (greeted[:2], (*greeted, ("user", "How long is the lock?"))):
        assert reason(*turns) == "question-unsure"  # the first turn's prompt is extended


@pytest.mark.parametrize("turns", [1, _MAX_LATER // 2 - 2])
def test_a_later_turn_brings_the_order_back_if_it_speaks_of_nothing_else(turns: int) -> None:
    first = [("user", f"{DOCUMENTS}\n\nHow long is the lock?"), ("assistant", "Nine metres.")]
    talk = [("user", "Why?"), ("assistant", "Because.")] * turns
    assert reason(*first, *talk, ("user", "Kezdd hátulról.")) == "question-unsure"
    assert reason(*first, *talk, ("user", "Was the lock closed before the war?")) == ""


def test_turns_far_behind_are_not_looked_at() -> None:
    first = [("user", f"{DOCUMENTS}\n\nHow long is the lock?"), ("assistant", "Nine metres.")]
    talk = [("user", "Why?"), ("assistant", "Because.")] * _MAX_LATER
    assert reason(*first, *talk, ("user", "Kezdd hátulról.")) == ""


def test_a_search_is_evidence_unless_the_user_speaks_of_what_it_returns() -> None:
    rows = ", ".join(f'{{"score": 0.{9 - n}, "text": "{b}"}}' for n, b in enumerate(BLOCKS))
    call = {"name": "web_search", "arguments": '{"query": "canal lock"}'}
    messages = [
        {"role": "user", "content": "Look it up."},
        {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": call}]},
        {"role": "tool", "tool_call_id": "c", "content": f'{{"results": [{rows}]}}'},
    ]
    assert look(messages).extraction is not None
    messages[0]["content"] = "Show me the texts on boats"
    assert look(messages).extraction is not None
    call["arguments"] = '{"query": "helicopter"}'
    assert look(messages).extraction is None


def test_the_question_is_what_follows_the_last_label() -> None:
    text = "Question: one?\nAnswer: two.\n\nHere is the query: why three?\n\nAnswer:"
    assert question_in(text) == "why three?"
    assert question_in("Block five goes on.\n\nWhy six?", last_alone=True) == "Why six?"
    assert question_in("Answer:\n") == ""


@settings(max_examples=60)
@given(st.text(max_size=200), st.lists(st.text(max_size=80), max_size=5))
def test_any_text_is_read(text: str, blocks: list[str]) -> None:
    question = read_question(question_in(text))
    assert question.speaks_of_order(blocks) in (True, False)
    assert question.is_about(blocks) in (True, False)


def test_escaped_and_long_blocks_are_searched_as_far_as_is_looked() -> None:
    question = read_question("Расскажи про шлюз")
    escaped = '"\\u0448\\u043b\\u044e\\u0437 \\u0441\\u0442\\u0430\\u0440"'
    assert question.is_about([escaped])
    assert not question.is_about(["x" * (1 << 18), escaped])

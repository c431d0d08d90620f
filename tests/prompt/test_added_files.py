"""Files that aider adds to a prompt, in another order in each of its processes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextpilot import ContextPilot
from contextpilot.prompt.extract import look

FILES = {
    f"src/{name}.py": "\n".join(f"{name}_{at} = compute({at * 7919})" for at in range(25)) + "\n"
    for name in ("alpha", "beta", "gamma", "delta")
}
READ_ONLY = (
    "Here are some READ ONLY files, provided for your reference.\nDo not edit these files!\n"
)
ADDED = (
    "I have *added these files to the chat* so you can go ahead and edit them.\n\n"
    "*Trust this message as the true contents of these files!*\n"
    "Any other messages in the chat may contain outdated versions of the files' contents.\n"
)


def listed(intro: str, paths: Any, fence: str = "```") -> str:
    return intro + "".join(f"\n{path}\n{fence}\n{FILES[path]}{fence}\n" for path in paths)


def prompt(read_only: Any, added: Any = (), question: str = "Rename compute.") -> list[Any]:
    """The messages of one request, in aider's order."""
    messages = [{"role": "system", "content": "Act as an expert software developer."}]
    if read_only:
        messages += [
            {"role": "user", "content": listed(READ_ONLY, read_only)},
            {"role": "assistant", "content": "Ok, I will use these files as references."},
        ]
    if added:
        messages += [
            {"role": "user", "content": listed(ADDED, added)},
            {"role": "assistant", "content": "Ok, any changes I propose will be to those files."},
        ]
    return [*messages, {"role": "user", "content": question}]


def written(pilot: ContextPilot, messages: list[Any]) -> list[str]:
    return [message["content"] for message in pilot.rewrite(messages).messages]


@given(st.lists(st.permutations(list(FILES)), min_size=2, max_size=4), st.booleans())
def test_the_same_files_are_written_the_same(orders: list[list[str]], both: bool) -> None:
    pilot = ContextPilot(index_url="")
    first = written(pilot, prompt(orders[0], ["src/beta.py", "src/alpha.py"] if both else ()))
    assert first[1] == listed(READ_ONLY, orders[0]), "nothing moves without a gain"
    for order in orders[1:]:
        again = written(pilot, prompt(order, ["src/alpha.py", "src/beta.py"] if both else ()))
        assert again[:-1] == first[:-1]
        for path, text in FILES.items():
            assert f"{path}\n```\n{text}```" in again[1], "a path never leaves its file"


@pytest.mark.parametrize(
    "question",
    [
        "Fix the bug: it crashes when the list is empty.",
        "Rename it.\n\n# Rules\nThe start of the block: <<<<<<< SEARCH\nThe end: >>>>>>> REPLACE",
    ],
)
def test_rules_for_the_answer_are_no_question_of_order(question: str) -> None:
    pilot = ContextPilot(index_url="")
    first = written(pilot, prompt(list(FILES), question=question))
    again = written(pilot, prompt(list(FILES)[::-1], question=question))
    assert again == first


def test_a_session_keeps_its_prefix_as_it_grows() -> None:
    pilot, order = ContextPilot(index_url=""), list(FILES)
    written(pilot, prompt(order))
    history, before = prompt(order[::-1]), []
    for turn in range(3):
        now = written(pilot, history)
        assert now[: len(before)] == before
        before = now
        history = [
            *history,
            {"role": "assistant", "content": f"Edit {turn}"},
            {"role": "user", "content": "More."},
        ]


def test_an_edited_file_leaves_the_others_where_they_hit(monkeypatch: pytest.MonkeyPatch) -> None:
    pilot, paths = ContextPilot(index_url=""), list(FILES)
    written(pilot, prompt(paths))
    monkeypatch.setitem(FILES, paths[3], "edited = 1\n" * 30)
    now = written(pilot, prompt([paths[3], paths[2], paths[0], paths[1]]))
    assert now[1].startswith(listed(READ_ONLY, paths[:3]))


def test_a_file_is_never_replaced_by_what_was_said_of_it_before() -> None:
    """The agent tells the model not to trust earlier versions."""
    pilot = ContextPilot(index_url="")
    pasted = {"role": "user", "content": "My file:\n\n" + FILES["src/alpha.py"]}
    for order in itertools.permutations(["src/alpha.py", "src/beta.py"]):
        now = written(pilot, [pasted, *prompt((), order)])
        for path in order:
            assert FILES[path] in now[2]


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        (prompt(list(FILES), question="What does the second file do?"), "position-asked"),
        (prompt(list(FILES), question="Swap the first file and the last."), "position-asked"),
        ([{"role": "user", "content": listed("My files.\n", FILES)}], "no-evidence"),
        (
            [
                {"role": "assistant", "content": ""},
                {"role": "tool", "content": listed(ADDED, FILES)},
            ],
            "no-evidence",
        ),
    ],
)
def test_other_files_stay(messages: list[Any], why: str) -> None:
    looked = look(messages)
    assert looked.extraction is None
    assert why in {one.code for one in looked.left}


def test_files_whose_end_is_unsure_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FILES, "src/beta.py", "no newline at the end " * 9)
    assert look(prompt(list(FILES))).extraction is None
    monkeypatch.undo()
    monkeypatch.setitem(FILES, "src/beta.py", "A text.\n```\nwith a fence\n```\n" * 3)
    assert look(prompt(list(FILES))).extraction is None
    longer = [{"role": "user", "content": listed(READ_ONLY, FILES, "````")}]
    assert look(longer).extraction is not None


@pytest.mark.parametrize("before", ["A colleague's log said: ", "> "])
def test_who_quotes_aider_has_files_of_an_order(before: str) -> None:
    pilot = ContextPilot(index_url="")
    for paths in (list(FILES), list(FILES)[::-1]):
        text = listed(before + ADDED, paths) + "\nWhich module is loaded last?"
        given = [{"role": "user", "content": text}]
        assert list(pilot.rewrite(given).messages) == given

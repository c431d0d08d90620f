"""The checker of references sees what is wrong, and passes what is right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from corpus_repeats import repeats
from corpus_run import Proxy, TalkVerdict, judge_talk, proxy
from corpus_talks import talks
from known import KNOWN
from references import reference_problem

pytestmark = pytest.mark.slow

FIRST = "alpha one\nbeta two\ngamma three\nbeta four"


def _body(*results: str) -> dict[str, object]:
    tools = [{"role": "tool", "tool_call_id": f"c{n}", "content": r} for n, r in enumerate(results)]
    return {"model": "m", "messages": [{"role": "user", "content": "q"}, *tools]}


@pytest.mark.parametrize(
    "written",
    [
        '[4 lines omitted, same as tool result #1: "alpha one"]',
        '[Identical: the same 4 lines as tool result #1, "alpha"]',
        "[Identical: the same 4 lines as tool result #1]",
        "[4 lines omitted: lines 1-4 of tool result #1]",
        "alpha one\n[3 lines omitted: lines 2-4 of tool result #1]",
        'Given earlier in this conversation, beginning "alpha one".',
        'alpha one\n[3 lines above: "beta two"]',
        '[2 lines #1 "alpha"]\n[2 lines above "gamma"]',
        "alpha one\n[2 lines omitted: lines 2-3 of tool result #1]\nbeta four",
    ],
)
def test_a_reference_that_can_be_followed(written: str) -> None:
    assert reference_problem(_body(FIRST, FIRST), _body(FIRST, written)) == ""


@pytest.mark.parametrize(
    "written",
    [
        '[4 lines omitted, same as tool result #1: "beta"]',  # two lines begin so
        '[3 lines omitted, same as tool result #1: "alpha one"]',  # a line is lost
        '[4 lines omitted, same as tool result #1: "delta"]',  # stands nowhere
        '[4 lines omitted, same as tool result #2: "alpha one"]',  # of another message
        'alpha one\n[3 lines above: "gamma three"]',  # other lines than were there
        'Given earlier in this conversation, beginning "gamma three".',
        "alpha one\n[2 lines omitted: lines 1-2 of tool result #1]\nbeta four",
        "alpha one\n[3 lines omitted: lines 1-3 of tool result #1]",
        "[4 lines omitted: lines 1-4 of tool result #3]",
        "alpha one\nbeta two\ngamma three",  # gone without a word
        "alpha one\nbeta two\ngamma three\nbeta four\nmore",
        "beta two\nalpha one\ngamma three\nbeta four",
    ],
)
def test_a_reference_that_cannot(written: str) -> None:
    assert reference_problem(_body(FIRST, FIRST), _body(FIRST, written)) != ""


def test_a_reference_to_a_reference() -> None:
    twice = '[4 lines omitted, same as tool result #1: "alpha one"]'
    assert reference_problem(_body(FIRST, FIRST, FIRST), _body(FIRST, twice, twice)) == ""
    stub = '[1 line omitted, same as tool result #2: "[4 lines omitted"]'
    assert reference_problem(_body(FIRST, FIRST, FIRST), _body(FIRST, twice, stub)) != ""


def test_what_the_sender_wrote_himself_is_no_reference_of_ours() -> None:
    forged = 'page\n[4 lines omitted, same as tool result #1: "nothing"]\nend'
    assert reference_problem(_body(FIRST, forged), _body(FIRST, forged)) == ""


def test_a_first_reading_that_is_altered() -> None:
    twice = f"{FIRST}\n{FIRST}"
    written = f'{FIRST}\n[4 lines above: "alpha one"]'
    assert reference_problem(_body(twice), _body(written)) != ""


@pytest.fixture(scope="module")
def client() -> Iterator[Proxy]:
    with proxy() as own:
        yield own


@pytest.fixture(scope="module")
def verdicts(client: Proxy) -> Sequence[TalkVerdict]:
    return [judge_talk(talk, client) for talk in [*talks(), *repeats()]]


def test_no_conversation_fails_that_is_not_known_to(verdicts: Sequence[TalkVerdict]) -> None:
    failed = {verdict.talk.name: verdict.problem for verdict in verdicts if verdict.problem}
    assert {name: why for name, why in failed.items() if name not in KNOWN} == {}
    names = [verdict.talk.name for verdict in verdicts]
    assert sorted(set(names)) == sorted(names)

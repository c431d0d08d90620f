"""Prompts of every shape arrive as they were, or with their documents found and nothing lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from corpus_cases import KINDS, load
from corpus_run import Proxy, Verdict, judge, proxy
from corpus_talks import talks
from known import KNOWN
from system_prompts import system_prompts

CASES = load()


@pytest.fixture(scope="module")
def client() -> Iterator[Proxy]:
    with proxy() as own:
        yield own


@pytest.fixture(scope="module")
def verdicts(client: Proxy) -> list[Verdict]:
    return [judge(case, client) for case in CASES]


@pytest.mark.parametrize("kind", KINDS)
def test_no_case_fails_that_is_not_known_to(kind: str, verdicts: list[Verdict]) -> None:
    failed = {v.case.name: v.problem for v in verdicts if v.case.kind == kind and v.problem}
    assert {name: why for name, why in failed.items() if name not in KNOWN} == {}


def test_names_are_unique_and_kinds_known() -> None:
    names = [case.name for case in CASES]
    assert sorted(names) == sorted(set(names))
    assert {case.kind for case in CASES} <= set(KINDS)
    others = [*talks(), *system_prompts()]
    assert {*names, *(each.name for each in others)} >= KNOWN


def test_the_items_of_a_case_differ() -> None:
    for case in CASES:
        assert len(set(case.wholes(case.given))) == case.count, case.name

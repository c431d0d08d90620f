"""Prompts of every shape arrive as they were, or with their documents found and nothing lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from corpus_cases import KINDS, load
from corpus_repeats import repeats
from corpus_run import Proxy, Verdict, judge, proxy
from corpus_talks import talks
from known import KNOWN, MOST_NOT_FOUND
from system_prompts import system_prompts

pytestmark = pytest.mark.slow

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
    others = [*talks(), *repeats(), *system_prompts()]
    assert {*names, *(each.name for each in others)} >= KNOWN


def test_the_items_of_a_case_differ() -> None:
    for case in CASES:
        assert len(set(case.wholes(case.given))) == case.count, case.name


def test_little_is_known_to_fail() -> None:
    """Of what must stay, only cases that were thought up against the rules."""
    by_kind = {kind: [case for case in CASES if case.kind == kind] for kind in KINDS}
    failing = {kind: [c for c in cases if c.name in KNOWN] for kind, cases in by_kind.items()}
    assert failing["explicit"] == []
    assert {case.family.split("_")[0] for case in failing["must_stay"]} <= {"hard", "asked"}
    assert len(failing["must_find"]) <= MOST_NOT_FOUND * len(by_kind["must_find"])
    assert len(by_kind["must_stay"]) >= 150
    assert len(by_kind["must_find"]) >= 100
    assert len({case.shape for case in CASES}) >= 80

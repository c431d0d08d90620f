"""The importance ranking leads back to the original order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import positions_in

from contextpilot.plan.price import displacement
from contextpilot.prompt.annotate import annotate, check_template


@given(st.integers(0, 20).flatmap(lambda n: st.permutations(range(n))))
def test_the_ranking_names_positions_from_most_to_least_important(order: list[int]) -> None:
    text = annotate(order, "{ranking}")
    if displacement(order) < 0.25:
        assert text == ""
        return
    assert [order[position - 1] for position in positions_in(text)] == sorted(order)


def test_three_positions_in_a_row_are_a_range() -> None:
    assert annotate([3, 0, 1, 4, 5, 2], "{ranking}") == "2,3,6,1,4,5"
    assert annotate([3, 0, 1, 2, 4, 5, 6], "{ranking}") == "2-4,1,5-7"


def test_a_block_next_to_its_place_is_not_worth_telling() -> None:
    assert annotate([*range(18), 19, 18]) == ""
    assert annotate([0, 1, 2]) == annotate([]) == ""
    assert annotate([*range(1, 20), 0])


def test_an_own_template() -> None:
    assert annotate([1, 0], "best first: {ranking}") == "best first: 2,1"


@pytest.mark.parametrize(
    "template",
    [
        "{rank}",
        "{}",
        "{0}",
        "{ranking",
        "{ranking!x}",
        "{ranking.a}",
        "{ranking[a]}",
        "{ranking:d}",
    ],
)
def test_templates_that_cannot_be_filled_are_named(template: str) -> None:
    with pytest.raises(ValueError, match="annotate"):
        check_template("annotate", template, "ranking")


@pytest.mark.parametrize("template", [None, 5, b"{ranking}"])
def test_a_template_is_a_string(template: Any) -> None:
    with pytest.raises(TypeError, match="annotate"):
        check_template("annotate", template, "ranking")


@pytest.mark.parametrize("template", ["{ranking}" * 9, "{ranking}" * 100_000, "x" * 100_000])
def test_a_template_does_not_multiply_what_is_filled_in(template: str) -> None:
    with pytest.raises(ValueError, match=r"more than 8 fields|at most 2,000") as error:
        check_template("annotate", template, "ranking")
    assert len(str(error.value)) < 400
    assert check_template("annotate", "{ranking}" * 8, "ranking")

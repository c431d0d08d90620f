"""What is left of llama-server's RAM cache once a slot makes room for itself."""

from __future__ import annotations

import pytest

from contextpilot.sync.events import SlotEvent
from contextpilot.sync.sources.slot_contents import Contents


def grown(number: int, keep: int, tokens: int) -> SlotEvent:
    return SlotEvent("slot", number, keep, tokens)


def saved(number: int, name: str, num_bytes: int) -> SlotEvent:
    return SlotEvent("saved", number, copy=name, num_bytes=num_bytes)


def filled(limit: int) -> Contents:
    """Copies of 100 and of 60 tokens, a byte a token, and a slot that holds 50 more, unsaved."""
    made = Contents()
    made.limit_ram(limit)
    for event in (grown(0, 0, 100), saved(0, "a", 100), grown(0, 0, 60), saved(0, "b", 60)):
        made.take(event)
    made.take(grown(0, 0, 50))
    return made


@pytest.mark.parametrize(
    ("limit", "left"),
    [(1000, [100, 60]), (210, [100, 60]), (209, [60]), (110, [60]), (109, []), (160, [60])],
)
def test_the_oldest_copies_make_room_for_what_a_slot_holds(limit: int, left: list[int]) -> None:
    assert [tokens for tokens, _ in filled(limit).copies(0)] == left


@pytest.mark.parametrize(("limit", "left"), [(210, [100, 60, 50]), (1000, [100, 60, 50])])
def test_a_slot_that_was_saved_needs_no_room(limit: int, left: list[int]) -> None:
    made = filled(limit)
    made.take(saved(0, "c", 50))
    assert [tokens for tokens, _ in made.copies(0)] == left


def test_a_slot_without_content_needs_no_room() -> None:
    assert [tokens for tokens, _ in filled(160).copies(7)] == [100, 60]


def test_a_copy_that_the_next_one_begins_with_goes() -> None:
    made = Contents()
    made.limit_ram(1000)
    for event in (grown(0, 0, 100), saved(0, "a", 100), grown(0, 100, 130), saved(0, "b", 130)):
        made.take(event)
    assert [tokens for tokens, _ in made.copies(0)] == [130]
    assert made.has_copies()


def test_copies_beyond_the_limit_go_the_oldest_first() -> None:
    made = Contents()
    made.limit_ram(159)
    for event in (grown(0, 0, 100), saved(0, "a", 100), grown(0, 0, 60), saved(0, "b", 60)):
        made.take(event)
    assert list(made._copies) == ["b"]

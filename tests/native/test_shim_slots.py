"""Every way in which a slot's content changes, and what the index hears of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from slot_driver import Driver
from slot_index import SlotIndex

Call = tuple[str | int, ...]
Start = Callable[..., Driver]


def prompt(slot: int, reused: int, length: int) -> list[Call]:
    """A prompt that reuses `reused` tokens of the slot, as llama-server runs it."""
    return [("rm", slot, reused, -1), ("process", slot, reused, length)]


def run(driver: Driver, calls: list[Call]) -> None:
    for call in calls:
        driver(*call)


def settled(index: SlotIndex, expected: dict[int, int]) -> None:
    index.wait(lambda: index.slots() == expected)


SITUATIONS: dict[str, tuple[list[Call], dict[int, int]]] = {
    "prompt": (prompt(1, 0, 600), {1: 600}),
    "generation": ([*prompt(1, 0, 600), *(("process", 1, n, n + 1) for n in (600, 601))], {1: 602}),
    "identical prompt": ([*prompt(0, 0, 600), *prompt(0, 599, 600)], {0: 600}),
    "unrelated prompt": ([*prompt(0, 0, 600), *prompt(0, 0, 50)], {0: 50}),
    "common prefix": ([*prompt(0, 0, 600), *prompt(0, 300, 450)], {0: 450}),
    "prompt of several batches": ([*prompt(0, 0, 512), *prompt(0, 512, 700)], {0: 700}),
    "two slots in one batch": ([("process", 0, 0, 40, 1, 0, 30, 0, 40, 45)], {0: 45, 1: 30}),
    "chunk reuse": (
        [*prompt(0, 0, 500), ("rm", 0, 100, 150), ("add", 0, 150, 500, -50), ("rm", 0, 449, -1)],
        {0: 449},
    ),
    "context shift": (
        [*prompt(0, 0, 511), ("rm", 0, 50, 280), ("add", 0, 280, 511, -230)],
        {0: 281},
    ),
    "hole": ([*prompt(0, 0, 500), ("rm", 0, 100, 150)], {0: 100}),
    "shift onto tokens": ([*prompt(0, 0, 500), ("add", 0, 300, 500, -50)], {0: 250}),
    "shift away": ([*prompt(0, 0, 500), ("add", 0, 300, -1, 50)], {0: 300}),
    "shift beyond the start": ([*prompt(0, 0, 500), ("add", 0, 0, 500, -100)], {0: 400}),
    "division": ([*prompt(0, 0, 500), ("div", 0, 200, 400, 2)], {0: 200}),
    "division by one": ([*prompt(0, 0, 500), ("div", 0, 200, 400, 1)], {0: 500}),
    "copy for n > 1": (
        [*prompt(0, 0, 90), ("rm", 1, -1, -1), ("cp", 0, 1, -1, -1)],
        {0: 90, 1: 90},
    ),
    "copy of a part": ([*prompt(0, 0, 90), ("cp", 0, 1, 0, 40)], {0: 90}),
    "copy onto tokens": (
        [*prompt(0, 0, 90), *prompt(1, 0, 60), ("cp", 0, 1, 30, -1)],
        {0: 90, 1: 30},
    ),
    "copy onto itself": ([*prompt(0, 0, 90), ("cp", 0, 0, -1, -1)], {0: 90}),
    "keep": ([*prompt(0, 0, 90), *prompt(1, 0, 60), ("keep", 1)], {1: 60}),
    "empty ranges": (
        [*prompt(0, 0, 90), ("rm", 0, 40, 40), ("add", 0, 30, 30, -5), ("process", 0, 90, 95)],
        {0: 95},
    ),
    "many holes": (
        [*prompt(0, 0, 400), *(("rm", 0, n, n + 2) for n in range(390, 2, -5))],
        {0: 5},
    ),
    "more sequences than one batch of ours notes": (
        [("process", *(word for n in range(20) for word in (n % 4, n // 4, n // 4 + 1)))],
        {0: 5, 1: 5, 2: 5, 3: 5},
    ),
    "erase": ([*prompt(0, 0, 90), ("rm", 0, -1, -1)], {}),
    "erase all": ([*prompt(0, 0, 90), *prompt(1, 0, 60), ("rm", -1, -1, -1)], {}),
    "clear": ([*prompt(0, 0, 90), ("clear",)], {}),
    "saved and restored": (
        [*prompt(0, 0, 90), ("get", 0, 3), ("rm", 0, -1, -1), ("set", 1, 3)],
        {1: 90},
    ),
    "saved and restored, older functions": (
        [*prompt(0, 0, 90), ("get_plain", 0, 3), ("rm", 0, -1, -1), ("set_plain", 1, 3)],
        {1: 90},
    ),
    "restore that fails": ([*prompt(0, 0, 90), ("get", 0, 3), ("set", 0, 3, 0, 10)], {}),
    "restore of a checkpoint": ([*prompt(0, 0, 90), ("get", 0, 3, 1), ("set", 0, 3, 1)], {0: 45}),
    "whole state": ([*prompt(0, 0, 90), ("set_whole", 0, 4)], {}),
    "whole state, older function": ([*prompt(0, 0, 90), ("set_whole_plain", 0, 4)], {}),
    "decode of older builds": (
        [("rm", 2, 0, -1), ("decode", 2, 0, 70), ("decode", 2, 70, 71)],
        {2: 71},
    ),
    "decode without positions": ([("decode_next", 30), ("decode_next", 5)], {0: 35}),
    "encoder": ([*prompt(0, 0, 90), ("encode", 0, 90, 99)], {0: 90}),
    "shared by two slots": ([("shared", 1, 3, 0, 33)], {1: 33, 3: 33}),
    "image in the middle": (
        [*prompt(0, 0, 40), ("media", 0, 40, 50), ("process", 0, 50, 60)],
        {0: 40},
    ),
    "image cut off again": (
        [*prompt(0, 0, 40), ("media", 0, 40, 50), *prompt(0, 40, 70)],
        {0: 70},
    ),
    "no room": ([*prompt(0, 0, 90), ("result", 1), ("process", 0, 90, 99)], {0: 90}),
    "aborted": ([*prompt(0, 0, 90), ("result", 2), ("process", 0, 90, 100)], {0: 90}),
    "failed": ([*prompt(0, 0, 90), ("result", -3), *prompt(0, 40, 50)], {0: 40}),
    "batch built in another order": ([*prompt(0, 0, 90), ("backwards", 1, 0, 20)], {0: 90, 1: 20}),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_the_index_knows_what_each_slot_holds(
    situation: str, index: SlotIndex, start: Start
) -> None:
    calls, expected = SITUATIONS[situation]
    untouched = {} if wipes(calls) else {4: 7}
    driver = start(index.url)
    run(driver, [("process", 4, 0, 7), *calls, ("process", 5, 0, 8)])
    index.wait(lambda: index.slots().get(5) == 8)
    assert index.slots() == {**expected, **untouched, 5: 8}


def wipes(calls: list[Call]) -> bool:
    """Whether the calls wipe out the slot that no situation touches by itself."""
    return any(
        call[0] in ("clear", "keep", "set_whole", "set_whole_plain") or call[:2] == ("rm", -1)
        for call in calls
    )


def test_a_prompt_begins_an_event_even_where_nothing_is_lost(
    index: SlotIndex, start: Start
) -> None:
    driver = start(index.url)
    run(driver, prompt(0, 0, 100))
    settled(index, {0: 100})
    run(driver, prompt(0, 100, 150))
    settled(index, {0: 150})
    chain = [(e["keep"], e["tokens"]) for e in index.events("slot")]
    assert chain[0][0] == 0
    assert (100, 150) in chain or chain[-2:] == [(100, 100), (100, 150)]


def test_growth_is_never_merged_over_a_truncation(index: SlotIndex, start: Start) -> None:
    driver = start(index.url)
    index.hello()
    index.fault = "500"
    driver("process", 0, 0, 3)
    assert index.wait_for_fault()
    run(
        driver,
        [("process", 0, 3, 9), *prompt(0, 5, 20), ("process", 0, 20, 21), *prompt(0, 21, 30)],
    )
    index.fault = None
    settled(index, {0: 30})
    chain = [(e["keep"], e["tokens"]) for e in index.events("slot")]
    assert chain[-2:] == [(5, 21), (21, 30)]


def test_a_copy_in_memory_is_known_by_its_place(index: SlotIndex, start: Start) -> None:
    driver = start(index.url)
    run(driver, [*prompt(0, 0, 90), ("get", 0, 1), *prompt(0, 0, 50), ("get", 0, 2)])
    run(driver, [("set", 3, 1), ("set", 2, 2), ("set", 1, 1)])
    settled(index, {0: 50, 1: 90, 2: 50, 3: 90})
    saved = [event["copy"] for event in index.events("saved")]
    loaded = {event["slot"]: event["copy"] for event in index.events("loaded")}
    # A copy is used up by a restore: what is there afterwards nobody knows.
    assert loaded == {3: saved[0], 2: saved[1], 1: ""}
    assert all(event["bytes"] == 8192 for event in index.events("saved"))


def test_memory_that_is_written_anew_is_another_copy(index: SlotIndex, start: Start) -> None:
    driver = start(index.url)
    run(driver, [*prompt(0, 0, 90), ("get", 0, 1), *prompt(0, 0, 50), ("get", 0, 1), ("set", 1, 1)])
    settled(index, {0: 50, 1: 50})
    first, second = (event["copy"] for event in index.events("saved"))
    assert first != second
    assert index.events("loaded")[-1]["copy"] == second


def test_a_file_is_known_by_its_path_and_tokens(
    index: SlotIndex, start: Start, tmp_path: Path
) -> None:
    ours, other = tmp_path / "slot.bin", tmp_path / "other.bin"
    driver = start(index.url)
    run(driver, [*prompt(0, 0, 90), ("save", str(ours), 0, 90, 1000), ("load", str(ours), 1)])
    run(driver, [("load", str(ours), 2)])  # a file is not used up
    settled(index, {0: 90, 1: 90, 2: 90})
    name = index.events("saved")[0]["copy"]
    assert name.startswith("file-")
    assert len(name) == len("file-") + 16
    assert [event["copy"] for event in index.events("loaded")] == [name, name]
    # Another program may put other tokens there.
    run(driver, [*prompt(3, 0, 90), ("save", str(other), 3, 90, 5000)])
    ours.write_bytes(other.read_bytes())
    run(driver, [("load", str(ours), 2)])
    index.wait(lambda: len(index.events("loaded")) == 3)
    assert index.events("loaded")[-1]["copy"] == ""


def test_a_session_file_replaces_everything(index: SlotIndex, start: Start, tmp_path: Path) -> None:
    driver = start(index.url)
    run(driver, [*prompt(0, 0, 90), ("load_whole", str(tmp_path / "session"), 5)])
    settled(index, {})


def test_images_saved_to_a_copy_stay_unknown(index: SlotIndex, start: Start) -> None:
    driver = start(index.url)
    run(driver, [*prompt(0, 0, 40), ("media", 0, 40, 50), ("get", 0, 1), ("set", 1, 1)])
    settled(index, {0: 40, 1: 40})


def test_a_loss_is_told_before_what_replaces_it(index: SlotIndex, start: Start) -> None:
    driver = start(index.url)
    run(driver, prompt(0, 0, 90))
    settled(index, {0: 90})
    run(driver, [("rm", 0, 20, -1)])
    settled(index, {0: 20})
    run(driver, [("process", 0, 20, 25)])
    settled(index, {0: 25})
    lowest: list[Any] = [e["keep"] for e in index.events("slot")]
    assert 20 in lowest

"""The wire schema: what is accepted, and that an error names the field."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextpilot.sync.events import (
    MAX_POINTS,
    MAX_SLOTS,
    SLOT_ENGINE,
    Event,
    SlotEvent,
    answer_message,
    parse_evict,
    parse_message,
)

GOOD: dict[str, Any] = {
    "version": 1,
    "engine": "vllm-host-8000",
    "epoch": "0123456789abcdef",
    "seq": 3,
    "kind": "vllm",
    "engine_version": "0.32.0",
    "block_size": 32,
    "snapshot": False,
    "events": [
        {"event": "cached", "request": "cp-1", "tokens": 96, "prompt_tokens": 100},
        {"event": "truncated", "request": "cp-1", "tokens": 0},
        {"event": "cleared"},
    ],
}


def test_a_message_is_read() -> None:
    message = parse_message(GOOD)
    assert (message.engine, message.epoch, message.seq) == ("vllm-host-8000", GOOD["epoch"], 3)
    assert message.events == (
        Event("cached", "cp-1", 96, 100),
        Event("truncated", "cp-1", 0),
        Event("cleared"),
    )


def test_a_message_of_version_2_is_read() -> None:
    body = {**GOOD, "version": 2, "events": [{"event": "unfollowed", "request": "cp-1"}], "more": 7}
    message = parse_message(body)
    assert (message.events, message.more) == ((Event("unfollowed", "cp-1"),), 7)
    assert answer_message("ok") == {"status": "ok", "version": 3}


SLOTS: dict[str, Any] = {
    **GOOD,
    "kind": "llamacpp",
    "block_size": 1,
    "pid": 77,
    "ram_limit_bytes": 1 << 33,
    "events": [
        {"event": "slot", "slot": 1, "keep": 10, "tokens": 30},
        {"event": "copied", "slot": 1, "to": 2},
        {"event": "saved", "slot": 2, "copy": "0", "bytes": 900},
        {"event": "loaded", "slot": 0, "copy": "0", "tokens": 30},
        {"event": "loaded", "slot": 0, "copy": "", "tokens": 5},
        {"event": "cleared"},
    ],
}


def test_slot_events_are_read() -> None:
    message = parse_message(SLOTS)
    assert (message.pid, message.ram_limit_bytes, message.events) == (77, 1 << 33, ())
    assert message.slot_events == (
        SlotEvent("slot", 1, 10, 30),
        SlotEvent("copied", 1, to=2),
        SlotEvent("saved", 2, copy="0", num_bytes=900),
        SlotEvent("loaded", 0, copy="0", tokens=30),
        SlotEvent("loaded", 0, tokens=5),
        SlotEvent("cleared"),
    )


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({"event": "cached", "request": "r", "tokens": 1}, r"events\[0\].event"),
        ({"event": "slot", "keep": 1, "tokens": 2}, r"events\[0\].slot"),
        ({"event": "slot", "slot": 0, "keep": 3, "tokens": 2}, r"events\[0\].tokens"),
        ({"event": "copied", "slot": 0}, r"events\[0\].to"),
        ({"event": "saved", "slot": 0, "copy": ""}, r"events\[0\].copy"),
        ({"event": "loaded", "slot": 0, "copy": "0"}, r"events\[0\].tokens"),
    ],
)
def test_errors_in_slot_events_name_the_field(event: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field} "):
        parse_message({**SLOTS, "events": [event]})


def test_unknown_fields_are_left_alone() -> None:
    assert parse_message({**GOOD, "later": {"x": 1}}) == parse_message(GOOD)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"version": 4}, "version"),
        ({"version": True}, "version"),
        ({"seq": 1 << 53}, "seq"),
        ({"more": -1}, "more"),
        ({"engine": ""}, "engine"),
        ({"epoch": 5}, "epoch"),
        ({"seq": -1}, "seq"),
        ({"seq": True}, "seq"),
        ({"block_size": "16"}, "block_size"),
        ({"snapshot": 1}, "snapshot"),
        ({"events": {}}, "events"),
        ({"events": ["x"]}, r"events\[0\]"),
        ({"events": [{"event": "grown"}]}, r"events\[0\].event"),
        ({"events": [{"event": "cached", "tokens": 1}]}, r"events\[0\].request"),
        ({"events": [{"event": "cached", "request": "r", "tokens": 1.5}]}, r"events\[0\].tokens"),
        ({"events": [{"event": "truncated", "request": "r"}]}, r"events\[0\].tokens"),
        ({"events": [{"event": "unfollowed"}]}, r"events\[0\].request"),
    ],
)
def test_errors_name_the_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field} "):
        parse_message({**GOOD, **change})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(json_values, st.sampled_from(sorted(GOOD)))
def test_any_json_is_read_or_refused_with_a_value_error(value: Any, field: str) -> None:
    for body in (value, {**GOOD, field: value}, {**GOOD, "events": [value]}):
        with contextlib.suppress(ValueError):
            assert parse_message(body).events is not None


@pytest.mark.parametrize("body", [None, [], {}, {"request_ids": "cp-1"}, {"request_ids": [1]}])
def test_evict_names_its_field(body: Any) -> None:
    with pytest.raises(ValueError, match="request_ids"):
        parse_evict(body)


POINTED: dict[str, Any] = {
    **GOOD,
    "version": 3,
    "sparse": True,
    "dropped": 32,
    "events": [
        {"event": "cached", "request": "cp-1", "tokens": 96, "points": [[32, 32], [96, 96]]}
    ],
}


def test_points_are_read() -> None:
    message = parse_message(POINTED)
    assert (message.sparse, message.dropped) == (True, 32)
    assert message.events == (Event("cached", "cp-1", 96, None, ((32, 32), (96, 96))),)


@pytest.mark.parametrize(
    "points", [1, "x", [1], [[1]], [[1, 2, 3]], [[64, 32]], [[64, 96], [32, 32]], [[-1, 5]]]
)
def test_points_that_are_none(points: Any) -> None:
    event = {**POINTED["events"][0], "points": points}
    with pytest.raises(ValueError, match=r"events\[0\]\.points must be pairs"):
        parse_message({**POINTED, "events": [event]})


@pytest.mark.parametrize("event", [{"event": "slot"}, {"event": "copied", "to": 0}])
def test_slots_have_a_bound(event: dict[str, Any]) -> None:
    head = {"version": 3, "engine": "l", "epoch": "1", "seq": 0, "kind": SLOT_ENGINE}
    full = {"keep": 0, "tokens": 1, **event}
    for slot, is_read in ((MAX_SLOTS - 1, True), (MAX_SLOTS, False)):
        message = {**head, "events": [{**full, "slot": slot}]}
        if is_read:
            assert parse_message(message).slot_events[0].slot == slot
        else:
            with pytest.raises(ValueError, match=r"events\[0\]\.slot must be below"):
                parse_message(message)


def test_points_have_a_bound() -> None:
    for length, is_read in ((MAX_POINTS, True), (MAX_POINTS + 1, False)):
        points = [[n, n] for n in range(1, length + 1)]
        event = {**POINTED["events"][0], "tokens": 1 << 20, "points": points}
        message = {**POINTED, "events": [event]}
        if is_read:
            assert parse_message(message).events[0].points is not None
        else:
            with pytest.raises(ValueError, match=r"events\[0\]\.points must be at most"):
                parse_message(message)


@pytest.mark.parametrize("points", [[[32, 128]], [[True, 96]], [[1.5, 96]], [["a", "b"]]])
def test_points_beyond_the_tokens_or_no_integers(points: Any) -> None:
    event = {**POINTED["events"][0], "points": points}
    with pytest.raises(ValueError, match="points must be pairs"):
        parse_message({**POINTED, "events": [event]})

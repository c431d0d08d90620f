"""Answers of an index server that are no plan are refused, and the request is planned here."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from socket_server import Connection, socket_server

import contextpilot as cp
from contextpilot.block import BlockReader
from contextpilot.jobs import decode_plans, encode_plans
from contextpilot.namespace import Namespaces
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import NO_HEAD
from contextpilot.planning import Job, LocalPlanning

TEXTS = [f"{word} " * 40 for word in ("alpha", "beta", "gamma")]


def order_of(pilot: cp.ContextPilot) -> tuple[int, ...]:
    return pilot.optimize(TEXTS, "q").order


_EXPLAINED = {"request_id": "cp-" + "0" * 24, "reason": "cold", "reachable_tokens": 1}
_GOOD = [0, [2, 1, 0], 1, _EXPLAINED]


def _with(at: int, value: Any) -> dict[str, Any]:
    return {"plans": [[*_GOOD[:at], value, *_GOOD[at + 1 :]]]}


ODD: list[Any] = [
    *([], {}, None, 1, "plans", {"plans": None}, {"plans": {}}, {"plans": []}, {"plans": [[]]}),
    *(_with(0, value) for value in (1, -1, True, False, 0.0, "0", None, 10**400)),
    *(_with(1, value) for value in ([0, 1], [0, 0, 1], [0, 1, 3], [-1, 0, 1], None, {}, "012")),
    *(_with(1, value) for value in ([0, True, 2], [0, 1.0, 2.0], [0, 1, "2"], [0, 1, None])),
    *(_with(2, value) for value in (4, -1, True, 1.0, None, "1", 10**400)),
    *(_with(3, value) for value in (None, [], {}, {**_EXPLAINED, "request_id": ""})),
    _with(3, {**_EXPLAINED, "request_id": "x" * 200}),
    *(_with(3, {**_EXPLAINED, "request_id": each}) for each in ("a\r\nX: 1", "\ud800", "é")),
    _with(3, {**_EXPLAINED, "reason": 5}),
    _with(3, {**_EXPLAINED, "reachable_tokens": -1}),
    {"plans": [_GOOD, _GOOD]},
]


@pytest.mark.parametrize("content", ODD)
def test_an_odd_answer_is_refused_and_planned_here(
    content: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def odd(connection: Connection) -> bool:
        return connection.send(200, content)

    with (
        socket_server(odd) as server,
        cp.ContextPilot(index_url=server.url) as pilot,
        caplog.at_level(logging.WARNING, "contextpilot"),
    ):
        assert order_of(pilot) == order_of(pilot) == (0, 1, 2)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("answer", [b"garbage", b'{"plans": ', b"[" * 100_000, b"\xff", b""])
def test_what_is_no_json_is_refused(answer: bytes) -> None:
    def odd(connection: Connection) -> bool:
        return connection.send(200, answer)

    with socket_server(odd) as server, cp.ContextPilot(index_url=server.url) as pilot:
        assert order_of(pilot) == (0, 1, 2)


def test_a_batch_with_one_context_planned_twice_is_refused() -> None:
    contexts = BlockReader().read_batch([TEXTS, TEXTS[1:]])
    job = Job("", contexts, Bounds(), NO_HEAD, [0, 0])
    good = encode_plans(LocalPlanning(Namespaces(100, 10, 2)).run(job))
    assert len(decode_plans(json.loads(json.dumps(good)), job)) == 2
    for bad in ([good["plans"][0]] * 2, [good["plans"][0], [1, [0, 1], 0, good["plans"][0][3]]]):
        with pytest.raises(ValueError, match=r"twice|one id"):
            decode_plans(json.loads(json.dumps({"plans": bad})), job)


@pytest.mark.parametrize(
    ("bounds", "fits"),
    [
        (Bounds(enabled=False), False),
        (Bounds(pin_first=1), False),
        (Bounds(max_shift=1), False),
        (Bounds(max_shift=2), True),
    ],
)
def test_a_plan_beyond_the_callers_bounds_is_refused(bounds: Bounds, fits: bool) -> None:
    job = Job("", BlockReader().read_batch([TEXTS]), bounds, NO_HEAD, [0])
    if fits:
        assert decode_plans({"plans": [_GOOD]}, job)[0].plan.order == (2, 1, 0)
    else:
        with pytest.raises(ValueError, match="bounds"):
            decode_plans({"plans": [_GOOD]}, job)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 5) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["plans", "request_id"]), inner, max_size=2)
    ),
    max_leaves=12,
)


@pytest.mark.slow
@given(st.fixed_dictionaries({"plans": st.lists(_JSON, max_size=3)}) | _JSON)
@settings(max_examples=300)
def test_no_answer_raises_anything_else(content: Any) -> None:
    job = Job("", BlockReader().read_batch([TEXTS]), Bounds(), NO_HEAD, [0])
    with pytest.raises(ValueError, match=r".+"):
        decode_plans(content, job)

"""Jobs of strangers: what an index would keep of them has a bound."""

from __future__ import annotations

from typing import Any

import pytest

from contextpilot.block import MAX_ID_CHARS, BlockReader
from contextpilot.jobs import decode_job, encode_job
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import Head
from contextpilot.planning import Job

READER = BlockReader()
BLOCKS = [*READER.read(["a text"]), *READER.read([{"id": "an id"}, {"id": 5}], bare_ids=True)]
JOB = encode_job(Job("tenant", [BLOCKS], Bounds(), Head((b"x" * 16,), 9), [3]))
KEY = JOB["contexts"][0][0][0]


def with_key(key: Any) -> dict[str, Any]:
    return {"contexts": [[[key, 1]]]}


@pytest.mark.parametrize(
    "change",
    [
        with_key("ab" * 65),
        with_key({"id": "x" * (MAX_ID_CHARS + 1)}),
        with_key([KEY] * 9),
        *({"contexts": [[[KEY, weight]]]} for weight in (-1, (1 << 31) + 1, True, 1.5, "1")),
        {"tails": [-1]},
        {"tails": [10**300]},
        {"head": [[], 1 << 70]},
        {"namespace": "n" * 513},
        {"namespace": ["n"]},
    ],
)
def test_what_is_beyond_the_bounds_is_no_job(change: dict[str, Any]) -> None:
    assert decode_job(JOB).contexts[0][1].key == ("id", "an id")
    with pytest.raises(ValueError, match=r"block key|must be"):
        decode_job({**JOB, **change})


def test_a_long_id_is_kept_as_its_hash() -> None:
    one, other = READER.read([{"id": end * 100_000} for end in "ab"], bare_ids=True)
    assert one.key != other.key
    assert len(str(one.key)) < MAX_ID_CHARS
    assert one.value == {"id": "a" * 100_000}
    assert decode_job(encode_job(Job("n", [[one]], Bounds(), Head((), 0), [0]))).contexts

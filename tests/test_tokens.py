"""What texts weigh: estimates by script, and what is learnt from the engine's counts."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import contextpilot as cp
from contextpilot.block import estimate_tokens
from contextpilot.tokens import TokenScale, text_tokens

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from weights.texts import COUNTED, TEXTS


@pytest.mark.parametrize("name", COUNTED)
def test_an_estimate_is_near_what_tokenizers_count(name: str) -> None:
    assert text_tokens(TEXTS[name]) == pytest.approx(COUNTED[name], rel=0.2)


def test_english_stays_near_a_quarter_of_its_characters() -> None:
    assert text_tokens(TEXTS["English"]) == pytest.approx(len(TEXTS["English"]) / 4, rel=0.1)


@given(st.text(st.characters(), max_size=600))
def test_every_text_has_a_weight_within_bounds(text: str) -> None:
    assert 0 <= text_tokens(text) <= 3 * len(text)
    assert estimate_tokens(text) >= 1


@given(st.text(st.characters(), max_size=200), st.text(st.characters(), max_size=200))
def test_a_text_weighs_what_its_parts_weigh(head: str, tail: str) -> None:
    assert abs(text_tokens(head + tail) - text_tokens(head) - text_tokens(tail)) <= 2


@pytest.mark.parametrize("name", TEXTS)
def test_a_long_text_is_measured_by_samples(name: str) -> None:
    text = TEXTS[name]
    many = 50_000 // len(text)
    assert text_tokens(text * many) == pytest.approx(text_tokens(text) * many, rel=0.1)


def test_samples_come_from_all_of_a_text() -> None:
    half = "plain words and more of them " * 500
    digits = "1234567890" * 1450
    mixed = text_tokens(half + digits)
    assert mixed == pytest.approx(text_tokens(half) + text_tokens(digits), rel=0.1)


# -- learning --------------------------------------------------------------------------------------


def teach(scale: TokenScale, *pairs: tuple[int, int]) -> None:
    for number, (estimate, count) in enumerate(pairs):
        scale.expect(f"{estimate} {number}", estimate)
        scale.count(f"{estimate} {number}", count)


def test_the_ratio_is_learnt_from_eight_counts() -> None:
    scale = TokenScale()
    teach(scale, *[(100, 150)] * 7)
    assert (scale.ratio, scale.source, scale.scale(100)) == (1.0, "estimate", 100)
    teach(scale, (100, 150))
    assert (scale.ratio, scale.source, scale.scale(100)) == (1.5, "learnt", 150)


def test_odd_counts_are_outvoted_and_the_ratio_is_bounded() -> None:
    scale = TokenScale()
    teach(scale, *[(100, 150)] * 40, *[(100, 10**9)] * 16)
    assert scale.ratio == 1.5
    wild = TokenScale()
    teach(wild, *[(100, 10**9)] * 8)
    assert wild.ratio == 8
    teach(wild, *[(10**6, 40)] * 64)
    assert wild.ratio == 1 / 8


def test_what_stands_before_every_prompt_is_left_out() -> None:
    draw = random.Random(1)
    lengths = [draw.randint(200, 4000) for _ in range(64)]
    scale = TokenScale()
    teach(scale, *[(n, round(n * 1.4 * draw.uniform(0.97, 1.03)) + 2500) for n in lengths])
    assert scale.ratio == pytest.approx(1.4, rel=0.05)


def test_the_ratio_follows_another_model() -> None:
    scale = TokenScale()
    teach(scale, *[(100, 150)] * 64, *[(100, 90)] * 64)
    assert scale.ratio == 0.9
    teach(scale, *[(100, 91)] * 64)  # too near to change anything
    assert scale.ratio == 0.9


def test_a_request_counts_once_and_unknown_or_tiny_ones_never() -> None:
    scale = TokenScale()
    scale.expect("a", 100)
    for _ in range(20):
        scale.count("a", 200)
        scale.count("unknown", 200)
    teach(scale, *[(10, 500)] * 20)
    teach(scale, *[(500, 10)] * 20)
    assert len(scale._pairs) == 1
    assert scale.source == "estimate"


def test_what_is_waited_for_and_kept_is_bounded() -> None:
    scale = TokenScale()
    for number in range(1000):
        scale.expect(str(number), 100)
    assert len(scale._expected) == 512
    scale.count("0", 200)
    assert not scale._pairs
    for number in range(600, 1000):
        scale.count(str(number), 200)
    assert len(scale._pairs) == 64


def test_a_tokenizer_is_never_corrected() -> None:
    scale = TokenScale(is_exact=True)
    teach(scale, *[(100, 150)] * 64)
    assert (scale.ratio, scale.source) == (1.0, "tokenizer")
    assert not scale._expected


# -- where counts come from ------------------------------------------------------------------------

BLOCKS = [f"words of a block, number {n}. " * 10 for n in range(6)]


def sync(pilot: cp.ContextPilot, seq: int, request_id: str, tokens: int) -> None:
    from contextpilot.client import Client

    event = {"event": "cached", "request": request_id, "tokens": tokens, "prompt_tokens": tokens}
    with Client(pilot.index_url or "") as client:
        client.sync({"version": 1, "engine": "e", "epoch": "1", "seq": seq, "events": [event]})


def told(pilot: cp.ContextPilot) -> tuple[Any, Any]:
    stats = pilot.stats()["default"]
    return stats["weights"], stats["weight_ratio"]


def test_events_teach_an_instance_that_listens() -> None:
    with cp.ContextPilot(listen="127.0.0.1:0") as pilot:
        assert told(pilot) == ("estimate", 1.0)
        before = pilot.explain(pilot.optimize(BLOCKS, "q")).total_tokens
        for seq in range(8):
            messages = pilot.optimize(BLOCKS, "q")
            whole = sum(pilot._namespaces.get("default").tokens._expected[messages.request_id])
            sync(pilot, seq, messages.request_id, 2 * whole)
        assert told(pilot) == ("learnt", 2.0)
        explained = pilot.explain(pilot.optimize(BLOCKS, "q"))
        assert explained.total_tokens == explained.matched_tokens == 2 * before


def test_what_was_planned_before_and_after_is_believed_alike() -> None:
    """A learnt ratio changes what is told, never what a count of the engine keeps."""
    with cp.ContextPilot(listen="127.0.0.1:0") as pilot:
        for seq in range(9):
            messages = pilot.optimize(BLOCKS, "q")
            whole = sum(pilot._namespaces.get("default").tokens._expected[messages.request_id])
            sync(pilot, seq, messages.request_id, 2 * whole)
        index = pilot._namespaces.get("default").index
        last = pilot.optimize(BLOCKS, "q")
        sync(pilot, 9, last.request_id, 2 * whole)
        assert index.live_tokens(last.request_id) == index.live_tokens(messages.request_id)


def test_answers_teach_through_the_openai_client() -> None:
    openai = pytest.importorskip("openai", reason="pip install openai")
    from socket_server import Connection, socket_server

    def answer(connection: Connection) -> bool:
        usage = {"prompt_tokens": 5000, "completion_tokens": 1, "total_tokens": 5001}
        message = {"role": "assistant", "content": "x"}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return connection.send(
            200,
            {
                "id": "x",
                "object": "chat.completion",
                "created": 1,
                "model": "m",
                "choices": [choice],
                "usage": usage,
            },
        )

    with (
        socket_server(answer) as engine,
        cp.ContextPilot(listen="127.0.0.1:0") as pilot,
        openai.OpenAI(base_url=engine.url, api_key="k", max_retries=0) as client,
    ):
        for number in range(8):
            messages = pilot.optimize(BLOCKS, f"q{number}")
            client.chat.completions.create(model="m", messages=list(messages))
        assert all(json.loads(body)["rid"] for body in engine.bodies)
        assert told(pilot)[0] == "learnt"
        assert told(pilot)[1] > 2


def test_a_tokenizer_is_told_in_stats() -> None:
    pilot = cp.ContextPilot(tokenizer=len)
    pilot.optimize(BLOCKS, "q")
    assert told(pilot) == ("tokenizer", 1.0)
